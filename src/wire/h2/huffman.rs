//! The Huffman code of header compression (RFC 7541 section 5.2 and appendix B).
//!
//! Must not know what the strings mean.

use crate::facts::Fault;

/// Decodes a string to its end.
///
/// # Errors
/// [`Fault::FieldBlock`]: the end-of-string symbol, padding of more than seven bits, or padding that is not
/// its first bits.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    // The shortest code has five bits.
    let mut decoded = Vec::with_capacity(bytes.len() * 8 / 5);
    let mut rest = bytes.iter();
    // The bits that were not decoded stand at the top.
    let mut window = 0_u64;
    let mut bits = 0_u32;
    loop {
        while bits <= 56 {
            let Some(&byte) = rest.next() else { break };
            window |= u64::from(byte) << (56 - bits);
            bits += 8;
        }
        if bits < 8 && window.leading_ones() >= bits {
            return Ok(decoded);
        }
        let (symbol, len) = symbol(window).filter(|(_, len)| *len <= bits).ok_or(Fault::FieldBlock)?;
        decoded.push(symbol);
        window <<= len;
        bits -= len;
    }
}

/// Returns the symbol that the bits start with, and how many of them are its code.
fn symbol(window: u64) -> Option<(u8, u32)> {
    let mut first_code = 0_u64;
    let mut first_symbol = 0_u64;
    let mut before = 0;
    for (len, count) in LENGTHS {
        first_code <<= len - before;
        before = len;
        let code = window >> (64 - len);
        if code < first_code + count {
            let at = first_symbol + (code - first_code);
            return Some((*SYMBOLS.get(usize::try_from(at).ok()?)?, len));
        }
        first_code += count;
        first_symbol += count;
    }
    None
}

/// The code is canonical: how long codes are, and how many there are of that length. The one code beyond
/// these, thirty ones, is the end-of-string symbol.
const LENGTHS: [(u32, u64); 21] = [
    (5, 10),
    (6, 26),
    (7, 32),
    (8, 6),
    (10, 5),
    (11, 3),
    (12, 2),
    (13, 6),
    (14, 2),
    (15, 3),
    (19, 3),
    (20, 8),
    (21, 13),
    (22, 26),
    (23, 29),
    (24, 12),
    (25, 4),
    (26, 15),
    (27, 19),
    (28, 29),
    (30, 3),
];

/// Octets by the length of their codes, then by value.
const SYMBOLS: [u8; 256] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116, 32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95,
    98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117, 58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77,
    78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106, 107, 113, 118, 119, 120, 121, 122, 38, 42, 44, 59, 88,
    90, 33, 34, 40, 41, 63, 39, 43, 124, 35, 62, 0, 36, 64, 91, 93, 126, 94, 125, 60, 96, 123, 92, 195, 208,
    128, 130, 131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230,
    129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190,
    196, 198, 228, 232, 233, 1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158,
    165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239, 9, 142, 144, 145, 148, 159, 171, 206,
    215, 225, 236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242,
    243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254,
    2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127,
    220, 249, 10, 13, 22,
];
