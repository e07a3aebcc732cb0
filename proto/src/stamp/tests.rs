mod exchanges;
mod golden;
mod properties;
mod reflecting;

use super::*;

/// The key of every test: octets 00 to 1f.
fn key() -> AuthKey {
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        .parse()
        .unwrap()
}

/// Reads hexadecimal text, written field by field.
fn hex(fields: &[&str]) -> Vec<u8> {
    let digits: Vec<u8> = fields
        .concat()
        .bytes()
        .filter(|c| !c.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn zeros(len: usize) -> String {
    "00".repeat(len)
}
