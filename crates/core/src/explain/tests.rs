use super::*;
use crate::directive::OutboundName;
use crate::refusal::Code;
use crate::testing::{FixedLists, account, group, mailbox, sender, settings};

fn ask(
    account: Option<Account>,
    directive: Result<&Directive, &Refusal>,
    lists: &FixedLists,
) -> Explanation {
    let account = account.map(Arc::new);
    let question = Question {
        from: &sender("orders@example.com"),
        to: &mailbox("anna@example.org"),
        account: account.as_ref(),
        known_by: "--user shop".to_owned(),
        directive,
        header_from: None,
        routes: None,
        tls: &|plan| {
            vec![Decision {
                key: "tls".to_owned(),
                value: format!("{:?}", plan.ssl),
                rule: "RELAY-55".to_owned(),
            }]
        },
        flow: &|plan| {
            let value = format!("{} outbounds", plan.outbounds.len());
            vec![Decision {
                key: "flow".to_owned(),
                value,
                rule: "warmup".to_owned(),
            }]
        },
        group: &Arc::new(group("bigisp")),
        group_reason: "mx1.example.org matches *.example.org of domains/@bigisp.ini".to_owned(),
    };
    explain(&settings(), &question, lists)
}

fn value<'a>(explanation: &'a Explanation, key: &str) -> &'a str {
    &explanation
        .decisions
        .iter()
        .find(|d| d.key == key)
        .unwrap()
        .value
}

#[test]
fn every_decision_is_shown_with_its_rule() {
    let directive = Directive {
        maxhop: Some(5),
        ..Directive::default()
    };
    let explanation = ask(
        Some(account("shop")),
        Ok(&directive),
        &FixedLists::default(),
    );
    let keys: Vec<&str> = explanation
        .decisions
        .iter()
        .map(|d| d.key.as_str())
        .collect();
    let expected = [
        "account",
        "group",
        "route",
        "outbound",
        "ehlo",
        "envelopefrom",
        "ssl",
        "sign",
        "timeout",
        "maxhop",
        "tls",
        "flow",
    ];
    assert_eq!(keys, expected);
    assert!(explanation.refused.is_empty());
    assert_eq!(value(&explanation, "account"), "shop");
    assert_eq!(value(&explanation, "group"), "@bigisp");
    assert_eq!(
        value(&explanation, "outbound"),
        "192.0.2.10 192.0.2.11 2001:db8::10 in rotation"
    );
    assert!(
        explanation
            .decisions
            .iter()
            .any(|d| d.rule == "directive message.maxhop" && d.value == "5")
    );
    assert!(explanation.decisions.iter().all(|d| !d.rule.is_empty()));
}

#[test]
fn refusals_at_rcpt_and_at_end_of_data_are_both_shown() {
    let lists = FixedLists(vec![("rfhard", "anna@example.org")]);
    let directive = Directive {
        outbound: Some(vec![OutboundName::Host("corp".to_owned())]),
        ..Directive::default()
    };
    let explanation = ask(Some(account("shop")), Ok(&directive), &lists);
    let shown: Vec<(&str, &str)> = explanation
        .refused
        .iter()
        .map(|r| (r.at.as_str(), r.reply.get(..9).unwrap()))
        .collect();
    assert_eq!(shown, [("RCPT", "451 9.2.1"), ("end of data", "451 9.1.5")]);
    assert_eq!(
        explanation.refused[0].rule,
        "users/shop.ini [list] filter: rfhard"
    );
}

#[test]
fn a_directive_that_cannot_be_parsed_is_shown_as_its_refusal() {
    let refusal = Refusal::new(Code::DirectiveSyntax, "not JSON", "RELAY-30");
    let explanation = ask(Some(account("shop")), Err(&refusal), &FixedLists::default());
    assert_eq!(
        explanation.refused[0].reply,
        "451 9.1.0 X-SMTP-R-API not JSON"
    );
}

#[test]
fn an_unauthenticated_client_is_told_so() {
    let explanation = ask(None, Ok(&Directive::default()), &FixedLists::default());
    assert_eq!(value(&explanation, "account"), "none");
    assert_eq!(explanation.refused[0].reply, "550 5.7.1 relaying denied");
}

#[test]
fn an_alternative_relay_host_is_shown_where_it_differs() {
    let mut shop = account("shop");
    shop.authorizedroute = vec!["corp".to_owned(), "spare".to_owned()];
    let hosts = ["corp", "spare"].map(|host| OutboundName::Host(host.to_owned()));
    let directive = Directive {
        outbound: Some(hosts.to_vec()),
        ..Directive::default()
    };
    let explanation = ask(Some(shop), Ok(&directive), &FixedLists::default());
    assert_eq!(value(&explanation, "route"), "@corp (corp.example.net:465)");
    assert_eq!(
        value(&explanation, "route 2"),
        "@spare (spare.example.net:465)"
    );
    assert!(explanation.decisions.iter().all(|d| d.key != "ssl 2"));
}

#[test]
fn it_is_printed_for_people_and_for_programs() {
    let explanation = ask(
        Some(account("shop")),
        Ok(&Directive::default()),
        &FixedLists::default(),
    );
    let text = explanation.to_string();
    assert!(
        text.starts_with("<orders@example.com> to <anna@example.org>\n  account       shop  "),
        "{text}"
    );
    assert!(text.contains("MX of example.org\n"));
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["decisions"][0]["key"], "account");
    assert_eq!(json["refused"], serde_json::json!([]));
}
