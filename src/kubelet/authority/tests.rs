use proptest::prelude::*;

use super::*;

/// The requests of RFC 7541, appendices C.3 and C.4: three on one connection, with and without Huffman's code. Each
/// `:authority` is `www.example.com`; the second and third refer to the table for it.
const RFC: [(&[u8], &[u8]); 6] = [
    (b"\x82\x86\x84\x41\x0fwww.example.com", b"\x82\x86\x84\x41\x01k"),
    (b"\x82\x86\x84\xbe\x58\x08no-cache", b"\x82\x86\x84\xbe\x58\x08no-cache"),
    (
        b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value",
        b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value",
    ),
    (
        b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
        b"\x82\x86\x84\x41\x01k",
    ),
    (
        b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
        b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
    ),
    (
        b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
    ),
];

#[test]
fn in_the_examples_of_the_specification_the_authority_and_nothing_else_is_replaced() {
    for (block, expected) in RFC {
        assert_eq!(replaced(block).unwrap(), expected);
    }
}

#[test]
fn the_authority_is_replaced_in_whichever_way_it_is_written() {
    for first in [0x41, 0x01, 0x11] {
        let block = [&[first, 0x06], &b"%2Frun"[..], &[0x82]].concat();

        assert_eq!(replaced(&block).unwrap(), [first, 1, b'k', 0x82]);
    }
}

#[test]
fn a_length_of_several_bytes_is_understood() {
    let block = [&b"\x20\x41\x7f\xad\x01"[..], &[b'%'; 300], b"\x84"].concat();

    assert_eq!(replaced(&block).unwrap(), b"\x20\x41\x01k\x84");
}

#[test]
fn other_values_names_that_are_spelled_out_and_changes_of_the_table_stay_as_they_are() {
    for block in [
        b"\x3f\xe1\x1f\x44\x04/a%b".as_slice(),
        b"\x00\x0a:authority\x03%2F",
        b"\x7e\x03%2F",
        b"\x41\x00\x81",
        b"",
    ] {
        assert_eq!(replaced(block).unwrap(), block);
    }
}

#[test]
fn a_block_that_ends_too_soon_or_has_endless_numbers_is_refused() {
    for block in [
        b"\x41".as_slice(),
        b"\x41\x02k",
        b"\x40\x01a",
        b"\x40\x01",
        b"\xff",
        b"\xff\x80\x80\x80\x80\x01",
        b"\x41\xff\xff\xff\xff\xff\x0f",
        b"\x7f",
    ] {
        assert_eq!(replaced(block), Err(Malformed), "{block:x?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_read_is_a_block_no_longer_than_it_was_in_which_nothing_is_left_to_replace(
        block in prop::collection::vec(
            prop_oneof![2 => any::<u8>(), 1 => Just(0x41), 1 => 0_u8..8],
            0..64,
        ),
    ) {
        if let Ok(once) = replaced(&block) {
            prop_assert!(once.len() <= block.len());
            prop_assert_eq!(replaced(&once).unwrap(), once);
        }
    }
}
