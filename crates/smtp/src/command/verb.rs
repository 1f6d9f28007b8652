//! The first word of a command line.

/// The commands we know by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Auth,
    StartTls,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    /// Known, and not for us: 502.
    Known,
}

/// Splits a line into its verb (without regard to case) and the rest. `None`: no verb we know.
pub(super) fn split(line: &[u8]) -> (Option<Verb>, &[u8]) {
    let end = line
        .iter()
        .take(9)
        .position(|&b| b == b' ' || b == b'\t')
        .unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
    let mut upper = [0_u8; 8];
    let Some(letters) = upper.get_mut(..word.len()) else {
        return (None, rest);
    };
    letters.copy_from_slice(word);
    letters.make_ascii_uppercase();
    let verb = match &*letters {
        b"EHLO" => Verb::Ehlo,
        b"HELO" => Verb::Helo,
        b"MAIL" => Verb::Mail,
        b"RCPT" => Verb::Rcpt,
        b"DATA" => Verb::Data,
        b"BDAT" => Verb::Bdat,
        b"AUTH" => Verb::Auth,
        b"STARTTLS" => Verb::StartTls,
        b"RSET" => Verb::Rset,
        b"NOOP" => Verb::Noop,
        b"VRFY" => Verb::Vrfy,
        b"HELP" => Verb::Help,
        b"QUIT" => Verb::Quit,
        b"EXPN" | b"ETRN" | b"TURN" | b"ATRN" | b"SEND" | b"SOML" | b"SAML" => Verb::Known,
        _ => return (None, rest),
    };
    (Some(verb), rest)
}
