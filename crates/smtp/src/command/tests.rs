use super::*;

const CONTEXT: Context<'_> = Context {
    hostname: "relay.example.com",
    requiretls: false,
    prdr: true,
};

fn mail(line: &str) -> Result<MailRequest, Fault> {
    match parse(line.as_bytes(), &CONTEXT)? {
        Command::Mail(request) => Ok(request),
        other => panic!("{other:?}"),
    }
}

fn rcpt(line: &str) -> Result<RcptRequest, Fault> {
    match parse(line.as_bytes(), &CONTEXT)? {
        Command::Rcpt(request) => Ok(request),
        other => panic!("{other:?}"),
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Fault>) -> (u16, &'static str) {
    let fault = result.unwrap_err();
    (fault.code, fault.enhanced)
}

#[test]
fn verbs_are_known_without_regard_to_case() {
    for (line, command) in [
        ("data", Command::Data),
        ("RSET  ", Command::Rset),
        ("Noop x y", Command::Noop),
        ("help\tx", Command::Help),
        ("VRFY x", Command::Vrfy),
        ("QUIT", Command::Quit),
        ("StartTLS", Command::StartTls),
        ("EHLO a.b", Command::Ehlo("a.b")),
        ("helo [IPv6:::1]", Command::Helo("[IPv6:::1]")),
        (
            "bdat 86 last",
            Command::Bdat(Chunk {
                size: 86,
                last: true,
            }),
        ),
        (
            "BDAT 0",
            Command::Bdat(Chunk {
                size: 0,
                last: false,
            }),
        ),
        (
            "auth plain AA==",
            Command::Auth {
                mechanism: "plain",
                initial: Some("AA=="),
            },
        ),
    ] {
        assert_eq!(parse(line.as_bytes(), &CONTEXT), Ok(command), "{line}");
    }
}

#[test]
fn relay_16_syntax_errors_have_their_codes() {
    for (line, want) in [
        ("", (500, "5.5.1")),
        ("FOOBARBAZ", (500, "5.5.1")),
        ("DATAX", (500, "5.5.1")),
        ("EXPN x", (502, "5.5.1")),
        ("DATA x", (501, "5.5.4")),
        ("EHLO", (501, "5.5.4")),
        ("EHLO a<b", (501, "5.5.4")),
        ("EHLO é", (501, "5.5.4")),
        ("VRFY", (501, "5.5.4")),
        ("AUTH", (501, "5.5.4")),
        ("AUTH PLAIN a b", (501, "5.5.4")),
        ("BDAT", (501, "5.5.4")),
        ("BDAT -1", (501, "5.5.4")),
        ("BDAT 1 2", (501, "5.5.4")),
        ("MAIL", (501, "5.5.4")),
        ("MAIL FROM", (501, "5.5.4")),
        ("MAIL <a@b.example>", (501, "5.5.4")),
        ("MAIL FROM:", (501, "5.1.7")),
        ("MAIL FROM:<a@b.example> =1", (501, "5.5.4")),
        ("RCPT TO:<>", (501, "5.1.3")),
        ("RCPT FROM:<a@b.example>", (501, "5.5.4")),
    ] {
        assert_eq!(code(parse(line.as_bytes(), &CONTEXT)), want, "{line}");
    }
    let long = format!("EHLO {}", "x".repeat(256));
    assert_eq!(code(parse(long.as_bytes(), &CONTEXT)), (501, "5.5.4"));
    assert_eq!(code(parse(b"MAIL FROM:<\xff@b>", &CONTEXT)), (501, "5.1.7"));
    assert_eq!(code(parse(b"\xff", &CONTEXT)), (500, "5.5.1"));
}

#[test]
fn ret_26_ret_28_ret_30_parameters_of_mail() {
    let request = mail(
        "MAIL FROM:<a@example.com> SIZE=12 BODY=8BITMIME RET=hdrs ENVID=a+20b SMTPUTF8 AUTH=c+2Bd@e PRDR",
    );
    let want = MailRequest {
        path: ReversePath::parse("a@example.com").unwrap(),
        size: Some(12),
        body8bit: true,
        smtputf8: true,
        ret: Some(Ret::Hdrs),
        envid: Some("a b".into()),
        prdr: true,
        requiretls: false,
        auth: Some("c+d@e".into()),
    };
    assert_eq!(request, Ok(want));
    let plain = mail("MAIL FROM:<>").unwrap();
    assert_eq!(
        (plain.path, plain.ret, plain.envid, plain.body8bit),
        (ReversePath::Null, None, None, false)
    );
    assert_eq!(
        mail("MAIL FROM:<> RET=FULL BODY=7bit").unwrap().ret,
        Some(Ret::Full)
    );

    let envid = |length: usize| mail(&format!("MAIL FROM:<> ENVID={}", "x".repeat(length)));
    assert_eq!(envid(100).unwrap().envid.unwrap().len(), 100);
    assert_eq!(code(envid(101)), (501, "5.5.4"));
    for parameter in [
        "RET",
        "RET=",
        "RET=BOTH",
        "ENVID",
        "ENVID=",
        "ENVID=a=b",
        "ENVID=+2",
        "ENVID=+C3+A9",
        "ENVID=+0A",
        "SIZE",
        "SIZE=",
        "SIZE=1x",
        "SIZE=+1",
        "BODY",
        "BODY=8BIT",
        "SMTPUTF8=1",
        "PRDR=",
        "AUTH",
        "AUTH=",
        "RET=FULL RET=FULL",
        "AUTH=a+0Db",
    ] {
        assert_eq!(
            code(mail(&format!("MAIL FROM:<> {parameter}"))),
            (501, "5.5.4"),
            "{parameter}"
        );
    }
    assert_eq!(code(mail("MAIL FROM:<> NOTIFY=NEVER")), (555, "5.5.4"));
}

#[test]
fn relay_14_requiretls_is_a_parameter_only_where_it_is_offered() {
    let line = b"MAIL FROM:<a@example.com> REQUIRETLS";
    assert_eq!(code(parse(line, &CONTEXT)), (555, "5.5.4"));
    let Ok(Command::Mail(request)) = parse(
        line,
        &Context {
            requiretls: true,
            ..CONTEXT
        },
    ) else {
        panic!()
    };
    assert!(request.requiretls);
    assert_eq!(
        code(parse(
            b"MAIL FROM:<> PRDR",
            &Context {
                prdr: false,
                ..CONTEXT
            }
        )),
        (555, "5.5.4")
    );
}

#[test]
fn ret_26_ret_27_ret_30_parameters_of_rcpt() {
    let request =
        rcpt("RCPT TO:<b@example.net> NOTIFY=success,DELAY ORCPT=rfc822;B+2Bx@example.net")
            .unwrap();
    let notify = Notify {
        success: true,
        delay: true,
        ..Notify::default()
    };
    assert_eq!(request.notify, Some(notify));
    assert_eq!(
        request.orcpt,
        Some(("rfc822".into(), "B+x@example.net".into()))
    );
    let never = Notify {
        never: true,
        ..Notify::default()
    };
    assert_eq!(
        rcpt("RCPT TO:<b@example.net> NOTIFY=NEVER").unwrap().notify,
        Some(never)
    );
    assert_eq!(rcpt("RCPT TO:<b@example.net>").unwrap().notify, None);

    let orcpt = |length: usize| {
        rcpt(&format!(
            "RCPT TO:<b@example.net> ORCPT=rfc822;{}",
            "x".repeat(length - 7)
        ))
    };
    assert_eq!(orcpt(500).unwrap().orcpt.unwrap().1.len(), 493);
    assert_eq!(code(orcpt(501)), (501, "5.5.4"));
    for parameter in [
        "NOTIFY",
        "NOTIFY=",
        "NOTIFY=NEVER,SUCCESS",
        "NOTIFY=SUCCESS,NEVER",
        "NOTIFY=NEVER,NEVER",
        "NOTIFY=,DELAY",
        "NOTIFY=ALWAYS",
        "ORCPT",
        "ORCPT=",
        "ORCPT=b@example.net",
        "ORCPT=;x",
        "ORCPT=rfc822;",
        "ORCPT=rfc822;a+",
        "NOTIFY=DELAY NOTIFY=DELAY",
    ] {
        assert_eq!(
            code(rcpt(&format!("RCPT TO:<b@example.net> {parameter}"))),
            (501, "5.5.4"),
            "{parameter}"
        );
    }
    assert_eq!(
        code(rcpt("RCPT TO:<b@example.net> RET=FULL")),
        (555, "5.5.4")
    );
}

#[test]
fn t_05_t_08_a_path_ends_where_its_quotes_say() {
    let request = rcpt("RCPT TO:<\"a> NOTIFY=NEVER \\\" \"@example.net> NOTIFY=DELAY").unwrap();
    let ForwardPath::Mailbox(mailbox) = request.path else {
        panic!()
    };
    assert_eq!(mailbox.local(), "\"a> NOTIFY=NEVER \\\" \"");
    assert!(request.notify.unwrap().delay);
    assert_eq!(code(rcpt("RCPT TO:<\"a\\\"@example.net>")), (501, "5.1.3"));
    assert_eq!(
        code(rcpt("RCPT TO:<a@example.net>NOTIFY=NEVER")),
        (501, "5.1.3")
    );
}

#[test]
fn relay_78_an_impossible_recipient_is_handed_on() {
    for inside in ["a@b..c", "a@", "@b"] {
        let request = rcpt(&format!("RCPT TO:<{inside}>")).unwrap();
        assert!(matches!(request.path, ForwardPath::Impossible { ref text, .. } if text == inside));
    }
    assert_eq!(code(rcpt("RCPT TO:<a>")), (501, "5.1.3"));
}
