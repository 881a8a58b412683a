use super::super::fixture::{PREFACE_BYTES, frame};
use super::*;

/// A request of the kubelet's kind: method, scheme, path, and a socket's path for an authority.
const BLOCK: &[u8] = b"\x83\x86\x04\x02/a\x41\x06%2Frun";
/// What is to become of it.
const REPLACED: &[u8] = b"\x83\x86\x04\x02/a\x41\x01k";

const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

fn rewritten(pieces: &[&[u8]]) -> Result<Vec<u8>, Malformed> {
    let mut rewriter = Rewriter::default();
    let mut output = Vec::new();
    for piece in pieces {
        rewriter.feed(piece, &mut output)?;
    }
    Ok(output)
}

/// Everything that a connection may have: two requests, one of them in three frames with padding and a priority, and
/// frames of other kinds between them.
fn connection() -> (Vec<u8>, Vec<u8>) {
    let padded = [&[3, 0, 0, 0, 0, 16], &BLOCK[..3], &[0, 0, 0]].concat();
    let sent = [
        PREFACE_BYTES.to_vec(),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]),
        frame(HEADERS, END_HEADERS, 1, BLOCK),
        frame(DATA, END_STREAM, 1, b"\0\0\0\0\0"),
        frame(HEADERS, END_STREAM | PADDED | PRIORITY, 3, &padded),
        frame(CONTINUATION, 0, 3, &BLOCK[3..9]),
        frame(CONTINUATION, 0, 3, b""),
        frame(CONTINUATION, END_HEADERS, 3, &BLOCK[9..]),
        frame(PING, 0, 0, &[7; 8]),
    ];
    let expected = [
        PREFACE_BYTES.to_vec(),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]),
        frame(HEADERS, END_HEADERS, 1, REPLACED),
        frame(DATA, END_STREAM, 1, b"\0\0\0\0\0"),
        frame(HEADERS, END_STREAM | END_HEADERS, 3, REPLACED),
        frame(PING, 0, 0, &[7; 8]),
    ];
    (sent.concat(), expected.concat())
}

#[test]
fn a_connection_reads_the_same_wherever_it_is_cut() {
    let (sent, expected) = connection();

    for cut in 0..=sent.len() {
        let (one, other) = sent.split_at(cut);
        assert_eq!(rewritten(&[one, other]).unwrap(), expected, "cut at {cut}");
    }
    let bytes: Vec<_> = sent.chunks(1).collect();
    assert_eq!(rewritten(&bytes).unwrap(), expected, "byte by byte");
}

#[test]
fn what_is_not_about_headers_passes_at_once_and_is_not_kept() {
    let mut rewriter = Rewriter::default();
    let mut output = Vec::new();
    let data = frame(DATA, 0, 1, &vec![0; 1 << 20]);
    let part = &data[..HEAD + 1000];

    rewriter.feed(PREFACE_BYTES, &mut output).unwrap();
    rewriter.feed(part, &mut output).unwrap();

    assert_eq!(output, [PREFACE_BYTES, part].concat());
    assert!(rewriter.frame.is_empty());
}

/// What comes of `frames` after the preface.
fn after_preface(frames: &[Vec<u8>]) -> Result<Vec<u8>, Malformed> {
    rewritten(&[PREFACE_BYTES, &frames.concat()])
}

#[test]
fn headers_without_an_end_are_refused_before_they_are_kept() {
    let head_of_a_long_frame = [0, 0x40, 1, HEADERS, END_HEADERS, 0, 0, 0, 1].to_vec();
    let long = vec![0x82; MOST];

    assert_eq!(after_preface(&[head_of_a_long_frame]), Err(Malformed::TooLarge));
    assert!(after_preface(&[frame(HEADERS, END_HEADERS, 1, &long)]).is_ok());
    let frames = [frame(HEADERS, 0, 1, &long), frame(CONTINUATION, 0, 1, &[0x82])];
    assert_eq!(after_preface(&frames), Err(Malformed::TooLarge));
}

#[test]
fn a_block_is_not_interrupted_and_a_continuation_continues_one() {
    let begun = frame(HEADERS, 0, 1, BLOCK);

    for next in [DATA, HEADERS, PING] {
        let frames = [begun.clone(), frame(next, 0, 1, b"")];
        assert_eq!(after_preface(&frames), Err(Malformed::Order));
    }
    let orphan = frame(CONTINUATION, END_HEADERS, 1, BLOCK);
    assert_eq!(after_preface(&[orphan]), Err(Malformed::Order));
}

#[test]
fn a_frame_that_is_shorter_than_its_padding_or_its_priority_is_refused() {
    for (flags, payload) in
        [(PADDED, &b""[..]), (PADDED, &[2, 0]), (PRIORITY, &[0; 4]), (PADDED | PRIORITY, &[1; 6])]
    {
        let frames = [frame(HEADERS, END_HEADERS | flags, 1, payload)];
        assert_eq!(after_preface(&frames), Err(Malformed::Short), "{flags:x} {payload:?}");
    }
}

#[test]
fn a_malformed_block_is_refused() {
    let frames = [frame(HEADERS, END_HEADERS, 1, b"\x41\x09k")];

    assert_eq!(after_preface(&frames), Err(Malformed::Block(authority::Malformed)));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_refused_or_passed_without_more_being_kept_than_a_block(
        bytes in proptest::collection::vec(proptest::prop_oneof![
            proptest::prelude::any::<u8>(), proptest::prelude::Just(0), 0_u8..10,
        ], 0..600),
    ) {
        let mut rewriter = Rewriter { passing: 0, ..Rewriter::default() };
        let mut output = Vec::new();
        let _ = rewriter.feed(&bytes, &mut output);
        proptest::prop_assert!(rewriter.frame.len() <= HEAD + MOST);
        proptest::prop_assert!(output.len() <= bytes.len());
    }
}
