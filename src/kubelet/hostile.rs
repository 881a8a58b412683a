//! Checks of what comes in on the registration socket; see [`crate::hostile`].
#![allow(clippy::missing_panics_doc, reason = "that is what a check is for")]

use super::authority;
use super::frames::Rewriter;

/// A connection: it reads the same wherever it is cut, is never longer than it came, and keeps no more than a header block.
/// The first byte says where it is cut.
pub fn registration(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let whole = read(&[stream]);
    let pieces: Vec<_> = stream.chunks(usize::from(*cut).max(1)).collect();
    let cut = read(&pieces);
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) => {
            assert_eq!(whole, cut, "it reads differently where it is cut");
            assert!(whole.len() <= stream.len());
        }
        (Err(whole), Err(cut)) => assert_eq!(whole, cut),
        _ => panic!("it is refused only where it is cut, or only where it is not"),
    }
    if let Ok(once) = authority::replaced(stream) {
        assert!(once.len() <= stream.len());
        assert_eq!(authority::replaced(&once), Ok(once.clone()), "it is replaced twice");
    }
}

fn read(pieces: &[&[u8]]) -> Result<Vec<u8>, super::frames::Malformed> {
    let mut rewriter = Rewriter::default();
    let mut output = Vec::new();
    for piece in pieces {
        rewriter.feed(piece, &mut output)?;
        assert!(rewriter.kept() <= 2 * (16 << 10) + 9, "more than a header block is kept");
    }
    Ok(output)
}
