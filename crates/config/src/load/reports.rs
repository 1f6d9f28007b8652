//! Where reports about our mail go (CONF-85): what can be told from the configuration. Whether the
//! published record names the same address is asked by `galerne doctor`.

use galerne_core::keys::KeyOwner;
use galerne_core::settings::Settings;

use crate::finding::Level;
use crate::sheet::Sheet;

/// Warns where nobody would hear of mail that fails DMARC, and of an address with two purposes.
pub fn check(sheet: &mut Sheet, settings: &Settings) {
    let (dmarc, fbl) = (&settings.rfrelay.dmarcaddr, &settings.rfrelay.fbladdr);
    let signed = settings.keys.iter().find_map(|key| match &key.name.owner {
        KeyOwner::Domain(name) => Some(name),
        KeyOwner::Default => None,
    });
    if let Some(domain) = signed.filter(|_| dmarc.is_empty()) {
        let text = format!(
            "no local part for DMARC reports, although keys/ signs for {domain}; expected the one that \
             its DMARC record names in rua, such as dmarc"
        );
        sheet.report(Level::Warning, "rfrelay", "dmarcaddr", &text);
    }
    for local in fbl.iter().filter(|local| dmarc.contains(local)) {
        let text = format!("{local} stands in dmarcaddr too: its mail is taken for DMARC reports");
        sheet.report(Level::Warning, "rfrelay", "fbladdr", &text);
    }
}
