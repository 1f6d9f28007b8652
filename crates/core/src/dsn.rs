//! Small decisions about delivery status notifications: what goes to the remote, what status is
//! reported, which octets come back (RET-33, RET-39).

use galerne_smtp::Reply;

use crate::model::{Notify, Recipient};

/// NOTIFY and ORCPT as they go to a remote that offers DSN (RET-34).
pub fn parameters(recipient: &Recipient) -> (Option<String>, Option<String>) {
    let orcpt = recipient
        .orcpt
        .as_ref()
        .map(|(kind, address)| format!("{kind};{address}"));
    (recipient.notify.map(keywords), orcpt)
}

fn keywords(notify: Notify) -> String {
    if notify.never {
        return "NEVER".to_owned();
    }
    let all = [
        (notify.success, "SUCCESS"),
        (notify.failure, "FAILURE"),
        (notify.delay, "DELAY"),
    ];
    let given: Vec<_> = all
        .into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, word)| word)
        .collect();
    given.join(",")
}

/// The status: the remote's enhanced code, else its basic code (RET-39). Our own class 9 is reported
/// as class 4 or 5, since RFC 3463 knows no other.
pub fn status(reply: &Reply) -> String {
    let class = match reply.code() {
        ..300 => 2,
        300..500 => 4,
        500.. => 5,
    };
    match reply.enhanced() {
        Some(code) if code.0 == class => format!("{class}.{}.{}", code.1, code.2),
        Some(code) if code.0 == 9 && code.1 == 3 => format!("{class}.4.0"),
        _ => format!("{class}.0.0"),
    }
}

/// The reply as a Diagnostic-Code shows it: code and lines joined with blanks.
pub fn diagnostic(reply: &Reply) -> String {
    let text = String::from_utf8_lossy(reply.text()).replace('\n', " ");
    format!("{} {text}", reply.code())
}

/// The header section of a message, up to the blank line.
pub fn header_of(octets: &[u8]) -> &[u8] {
    match memchr::memmem::find(octets, b"\r\n\r\n") {
        Some(at) => octets.get(..at + 2).unwrap_or(octets),
        None => octets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ret_39_status_is_the_remotes_or_made_from_the_basic_code() {
        let status_of = |code, text: &str| status(&Reply::new(code, text));
        assert_eq!(status_of(550, "5.1.1 No such user"), "5.1.1");
        assert_eq!(status_of(550, "no such user"), "5.0.0");
        assert_eq!(status_of(452, "full"), "4.0.0");
        assert_eq!(status_of(250, "2.6.0 taken"), "2.6.0");
        assert_eq!(status_of(250, "taken"), "2.0.0");
        assert_eq!(status_of(250, "5.1.1 taken"), "2.0.0");
        assert_eq!(status_of(451, "9.3.2 X-SMTP-R-API no connection"), "4.4.0");
        assert_eq!(status_of(451, "9.2.4 X-SMTP-R-API no domain"), "4.0.0");
    }

    #[test]
    fn ret_38_header_ends_at_the_blank_line() {
        assert_eq!(
            header_of(b"A: b\r\nC: d\r\n\r\nbody\r\n\r\n"),
            b"A: b\r\nC: d\r\n"
        );
        assert_eq!(header_of(b"A: b\r\n"), b"A: b\r\n");
    }
}
