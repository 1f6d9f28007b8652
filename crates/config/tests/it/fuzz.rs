//! Fuzz targets under seeded mutations of stored inputs (T-09).

use std::time::{Duration, Instant};

use galerne_config::fuzz;

const SEEDS: &[&str] = &[
    include_str!("../../samples/galerne.ini"),
    include_str!("../../samples/users/demo.ini"),
    include_str!("../../samples/domains/@gmail.ini"),
    "\u{feff}[a]\r\nk = v\r\n\r\n;c\r[b]\n=\n[\n]\n",
    "[routing@bigisp]\nip = 192.0.2.1, 2001:db8::1\nroute=@a @b\nenvelopefrom = \"x y\"@example.com\n[relay]\nmode = auto",
    "[ipflow#warmup@192.0.2.11]\nvolttllow = 10m\n[pattern]\nx = FLOW(a, #defcon2, #low) 554 *é*\n",
    "date;domain\n260101000000;\"a\"\"b\"\n\n1;2\n",
];

const PIECES: &[&[u8]] = &[
    b"[",
    b"]",
    b"=",
    b"\n",
    b"\r\n",
    b"\r",
    b";",
    b"#",
    b"@",
    b"\"",
    b",",
    b"\t",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"[account]\n",
    b"smtpip = ",
    b"/8",
    b"%user%",
    b"-",
    b" ",
    b"99999999999999999999",
    b"{argon2}",
    b"::",
    b"d",
];

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides.max(1)
    }
}

fn mutate(data: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.roll(6) {
        let at = dice.roll(data.len() + 1);
        match dice.roll(5) {
            0 if at < data.len() => data[at] = dice.roll(256) as u8,
            1 => data.truncate(at),
            2 if at < data.len() => drop(data.remove(at)),
            3 => {
                let from = dice.roll(data.len() + 1);
                let piece = data[from..data.len().min(from + dice.roll(40))].to_vec();
                data.splice(at..at, piece);
            }
            _ => {
                let piece = PIECES[dice.roll(PIECES.len())];
                data.splice(at..at, piece.iter().copied());
            }
        }
    }
}

#[test]
fn t_09_conf_14_ini_csv_and_values_survive_any_bytes() {
    let seed = std::env::var("FUZZ_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(20_260_301);
    let mut dice = Dice(seed);
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 200 || start.elapsed() < Duration::from_millis(2500) {
        let mut data = SEEDS[rounds % SEEDS.len()].as_bytes().to_vec();
        if rounds >= SEEDS.len() {
            mutate(&mut data, &mut dice);
        }
        let shown = data.clone();
        let run = std::panic::catch_unwind(move || {
            fuzz::ini(&data);
            fuzz::csv(&data);
            fuzz::values(&data[..data.len().min(200)]);
        });
        if run.is_err() {
            panic!(
                "seed {seed}, round {rounds}: {:?}",
                String::from_utf8_lossy(&shown)
            );
        }
        rounds += 1;
    }
}
