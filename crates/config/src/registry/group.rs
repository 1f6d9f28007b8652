//! The keys of `domains/@<name>.ini` and `hosts/@<name>.ini` (CONF-73, FLOW-17).

use super::{KeySpec, Kind};

type K = KeySpec;

const MANY: Kind = Kind::Count {
    min: 0,
    max: u64::MAX,
    unit: "",
};
const TIME: Kind = Kind::Duration {
    min: 0,
    max: 366 * 86_400,
};

/// The remote host and its patterns.
#[rustfmt::skip]
pub const DNS: &[KeySpec] = &[
    K::new(&["dns"], "mx", Kind::MxPatterns, "", "FLOW-53", "MX name patterns of the group; for a relay its one host name or address."),
    K::new(&["dns"], "domain", Kind::Domain, "", "FLOW-58", "Host name used for the initial MX resolution; empty: the first alias."),
    K::new(&["dns"], "cache", Kind::Flag, "0", "FLOW-57", "All alias domains share the MX of `domain`."),
    K::new(&["dns"], "relay", Kind::Flag, "0", "CONF-76", "This entry is an SMTP relay; always so in hosts/."),
    K::new(&["dns"], "port", Kind::Port, "465", "CONF-77", "Port of the relay; 465 is TLS from the first octet."),
    K::new(&["dns"], "ip", Kind::Addresses, "", "CONF-73", "Local addresses for connecting to the relay; empty: those of the user."),
    K::new(&["dns"], "login", Kind::Text, "", "ROUTE-39", "Login at the relay; empty: no AUTH."),
    K::new(&["dns"], "passw", Kind::Secret, "", "ROUTE-39", "Password at the relay; empty: no AUTH."),
    K::new(&["dns"], "overwrite", Kind::Flag, "0", "CONF-78", "Use the login, an address, as envelope sender."),
    K::new(&["dns"], "authclear", Kind::Flag, "0", "ROUTE-41", "Send the password in clear if the relay has no TLS."),
    K::new(&["dns"], "verify", Kind::Flag, "1", "ROUTE-41", "The relay's certificate must verify."),
    K::new(&["pattern"], "*", Kind::Pattern, "", "FLOW-62", "The key names the pattern, the value is `FUNCTION(arguments) pattern`."),
];

const SET: &[&str] = &["ipflow#", "sdflow#"];

/// The parameters of one flow set.
#[rustfmt::skip]
pub const FLOW: &[KeySpec] = &[
    K::new(SET, "sleepttl", TIME, "0", "FLOW-43", "Wait before the first message after the set was entered by FLOW()."),
    K::new(SET, "threadmax", MANY, "1", "FLOW-20", "Most simultaneous sessions; 0 = no limit."),
    K::new(SET, "chainmax", MANY, "0", "FLOW-20", "Most messages per session; 0 = no limit."),
    K::new(SET, "waittime", TIME, "0", "FLOW-21", "Pause between two sessions."),
    K::new(SET, "errmax", MANY, "0", "FLOW-47", "Consecutive unknown errors before `flowerr`; 0 = off."),
    K::new(SET, "flowerr", Kind::FlowTarget, "0", "FLOW-47", "Set to enter then."),
    K::new(SET, "volttllow", TIME, "0", "FLOW-24", "Length of the shorter window; 0 = off."),
    K::new(SET, "volmaxlow", MANY, "0", "FLOW-24", "Most messages in the shorter window; 0 = off."),
    K::new(SET, "volttlhigh", TIME, "0", "FLOW-24", "Length of the longer window; 0 = off."),
    K::new(SET, "volmaxhigh", MANY, "0", "FLOW-24", "Most messages in the longer window; 0 = off."),
    K::new(SET, "flowttlup", TIME, "0", "FLOW-30", "Period of the up switch."),
    K::new(SET, "flowvolup", MANY, "0", "FLOW-30", "Volume of the up switch; 0 = off."),
    K::new(SET, "flowup", Kind::FlowTarget, "0", "FLOW-30", "Target of the up switch; 0 = the next higher set."),
    K::new(SET, "flowttldown", TIME, "0", "FLOW-31", "Period of the down switch."),
    K::new(SET, "flowvoldown", MANY, "0", "FLOW-31", "Volume of the down switch; 0 = off."),
    K::new(SET, "flowdown", Kind::FlowTarget, "0", "FLOW-31", "Target of the down switch; 0 = the next lower set."),
];
