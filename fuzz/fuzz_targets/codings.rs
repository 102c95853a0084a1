//! Any bytes under any Content-Encoding: within the limits, and the same however they were cut on their way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::fetch::codings::{CodingError, Decoder};

const MOST: usize = 1 << 20;
const NAMES: [&str; 7] = ["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, deflate", "br, br"];

fn decode(body: &[u8], coding: &str, piece: usize) -> Result<Vec<u8>, CodingError> {
    let mut decoder = Decoder::new(coding, MOST, 200)?;
    let mut all = vec![];
    for some in body.chunks(piece) {
        decoder.push(some, |made| {
            all.extend_from_slice(made);
            assert!(all.len() <= MOST);
            Ok::<_, CodingError>(())
        })?;
    }
    decoder.finish().map(|()| all)
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (name, piece, body) = input;
    let coding = NAMES[usize::from(name) % NAMES.len()];
    let (whole, pieces) = (decode(body, coding, usize::MAX), decode(body, coding, usize::from(piece) + 1));
    // A ratio is judged by what came until then, so a bomb may be told from a whole one only.
    if whole.is_ok() {
        assert!(pieces == whole || matches!(pieces, Err(CodingError::Bomb { .. })), "{coding}: {pieces:?}");
    }
});
