//! The magic numbers, and where each format puts them. Numbers are facts of the formats' own documentation and headers.

use super::Kind::{self, Filesystem, Member, PartitionTable};

/// One magic number of a format. A format has a row for each place and each spelling.
pub(super) struct Magic {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) at: At,
    pub(super) bytes: &'static [u8],
    /// How far from the magic number 16 bytes of UUID are.
    pub(super) uuid: Option<i64>,
}

/// Where a magic number is.
#[derive(Clone, Copy)]
pub(super) enum At {
    /// This many bytes from the beginning.
    Start(u64),
    /// This many bytes before the end.
    End(u64),
    /// Before the end rounded down to a multiple of the first, minus the second, plus the third.
    Aligned(u64, u64, u64),
}

impl At {
    /// Bytes from the beginning of a device of `size` bytes; absent where the device is too small to have the place.
    pub(super) fn offset(self, size: u64) -> Option<u64> {
        let offset = match self {
            Self::Start(offset) => offset,
            Self::End(distance) => size.checked_sub(distance)?,
            Self::Aligned(unit, distance, plus) => {
                (size / unit * unit).checked_sub(distance)?.checked_add(plus)?
            }
        };
        (offset < size).then_some(offset)
    }
}

const fn fs(name: &'static str, at: u64, bytes: &'static [u8]) -> Magic {
    Magic { name, kind: Filesystem, at: At::Start(at), bytes, uuid: None }
}

const fn fs_uuid(name: &'static str, at: u64, bytes: &'static [u8], uuid: i64) -> Magic {
    Magic { name, kind: Filesystem, at: At::Start(at), bytes, uuid: Some(uuid) }
}

const fn member(name: &'static str, at: At, bytes: &'static [u8]) -> Magic {
    Magic { name, kind: Member, at, bytes, uuid: None }
}

const fn parts(name: &'static str, at: At, bytes: &'static [u8]) -> Magic {
    Magic { name, kind: PartitionTable, at, bytes, uuid: None }
}

use At::{Aligned, End, Start};

const MD: &[u8] = b"\xfc\x4e\x2b\xa9";
const BTRFS: &[u8] = b"_BHRfS_M";
const GPT: &[u8] = b"EFI PART";

/// Every magic number that is looked for.
pub(super) const MAGICS: &[Magic] = &[
    fs_uuid("xfs", 0, b"XFSB", 0x20),
    // ext_generation tells ext2 from ext3, ext4 and a journal device.
    fs_uuid("ext2", 0x438, b"\x53\xef", 0x30),
    fs_uuid("btrfs", 0x1_0040, BTRFS, -0x20),
    fs_uuid("btrfs", 0x400_0040, BTRFS, -0x20),
    fs_uuid("btrfs", 0x40_0000_0040, BTRFS, -0x20),
    fs_uuid("f2fs", 0x400, b"\x10\x20\xf5\xf2", 0x6C),
    fs_uuid("f2fs", 0x1400, b"\x10\x20\xf5\xf2", 0x6C),
    fs_uuid(
        "bcachefs",
        0x1018,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        0x20,
    ),
    fs_uuid("erofs", 0x400, b"\xe2\xe1\xf5\xe0", 0x30),
    fs("squashfs", 0, b"hsqs"),
    fs("squashfs", 0, b"sqsh"),
    fs("cramfs", 0, b"\x45\x3d\xcd\x28"),
    fs("cramfs", 0, b"\x28\xcd\x3d\x45"),
    fs("iso9660", 0x8001, b"CD001"),
    fs("iso9660", 0x8009, b"CDROM"),
    fs("udf", 0x8001, b"BEA01"),
    fs("udf", 0x8001, b"NSR02"),
    fs("udf", 0x8001, b"NSR03"),
    fs("ntfs", 3, b"NTFS    "),
    fs("exfat", 3, b"EXFAT   "),
    fs("refs", 3, b"ReFS\0\0\0\0"),
    fs("vfat", 0x52, b"FAT32   "),
    fs("vfat", 0x52, b"MSWIN"),
    fs("vfat", 0x36, b"FAT16   "),
    fs("vfat", 0x36, b"FAT12   "),
    fs("vfat", 0x36, b"FAT     "),
    fs("vfat", 0x36, b"MSDOS"),
    fs("minix", 0x410, b"\x7f\x13"),
    fs("minix", 0x410, b"\x8f\x13"),
    fs("minix", 0x410, b"\x68\x24"),
    fs("minix", 0x410, b"\x78\x24"),
    fs("minix", 0x410, b"\x13\x7f"),
    fs("minix", 0x410, b"\x13\x8f"),
    fs("minix", 0x410, b"\x24\x68"),
    fs("minix", 0x410, b"\x24\x78"),
    fs("minix", 0x418, b"\x5a\x4d"),
    fs("minix", 0x418, b"\x4d\x5a"),
    fs_uuid("jfs", 0x8000, b"JFS1", 0x88),
    fs("reiserfs", 0x2034, b"ReIsErFs"),
    fs("reiserfs", 0x1_0034, b"ReIsErFs"),
    fs("reiserfs", 0x1_0034, b"ReIsEr2Fs"),
    fs("reiserfs", 0x1_0034, b"ReIsEr3Fs"),
    fs("reiser4", 0x1_0000, b"ReIsEr4"),
    fs_uuid("nilfs2", 0x406, b"\x34\x34", 0x92),
    Magic {
        name: "nilfs2",
        kind: Filesystem,
        at: Aligned(4096, 4096, 6),
        bytes: b"\x34\x34",
        uuid: Some(0x92),
    },
    fs("ocfs2", 0x400, b"OCFSV2"),
    fs("ocfs2", 0x800, b"OCFSV2"),
    fs("ocfs2", 0x1000, b"OCFSV2"),
    fs("ocfs2", 0x2000, b"OCFSV2"),
    fs("gfs2", 0x1_0000, b"\x01\x16\x19\x70"),
    fs("hfsplus", 0x400, b"H+"),
    fs("hfsplus", 0x400, b"HX"),
    fs("hfs", 0x400, b"BD"),
    fs("apfs", 0x20, b"NXSB"),
    fs("befs", 0x20, b"BFS1"),
    fs("befs", 0x220, b"BFS1"),
    fs("ufs", 0x255C, b"\x54\x19\x01\x00"),
    fs("ufs", 0x255C, b"\x00\x01\x19\x54"),
    fs("ufs", 0x1_055C, b"\x19\x01\x54\x19"),
    fs("ufs", 0x1_055C, b"\x19\x54\x01\x19"),
    fs("zonefs", 0, b"SFOZ"),
    fs("vmfs", 0x20_0000, b"\x5e\xf1\xab\x2f"),
    // Swap, also with an image of a sleeping system in it: the last ten bytes of the first page, of any page size.
    member("swap", Start(0xFF6), b"SWAPSPACE2"),
    member("swap", Start(0xFF6), b"SWAP-SPACE"),
    member("swap", Start(0x1FF6), b"SWAPSPACE2"),
    member("swap", Start(0x3FF6), b"SWAPSPACE2"),
    member("swap", Start(0x7FF6), b"SWAPSPACE2"),
    member("swap", Start(0xFFF6), b"SWAPSPACE2"),
    member("swsuspend", Start(0xFF6), b"S1SUSPEND"),
    member("swsuspend", Start(0xFF6), b"S2SUSPEND"),
    member("swsuspend", Start(0xFF6), b"ULSUSPEND"),
    member("swsuspend", Start(0xFF6), b"LINHIB0001"),
    // Encryption; LUKS2 keeps a second header at one of several places.
    member("crypto_LUKS", Start(0), b"LUKS\xba\xbe"),
    member("crypto_LUKS", Start(0x4000), b"SKUL\xba\xbe"),
    member("crypto_LUKS", Start(0x8000), b"SKUL\xba\xbe"),
    member("crypto_LUKS", Start(0x1_0000), b"SKUL\xba\xbe"),
    member("crypto_LUKS", Start(0x2_0000), b"SKUL\xba\xbe"),
    member("crypto_LUKS", Start(0x4_0000), b"SKUL\xba\xbe"),
    member("crypto_LUKS", Start(0x8_0000), b"SKUL\xba\xbe"),
    member("crypto_LUKS", Start(0x10_0000), b"SKUL\xba\xbe"),
    member("crypto_LUKS", Start(0x20_0000), b"SKUL\xba\xbe"),
    member("crypto_LUKS", Start(0x40_0000), b"SKUL\xba\xbe"),
    member("BitLocker", Start(3), b"-FVE-FS-"),
    // Volume managers and targets of the device mapper.
    member("LVM2_member", Start(0x18), b"LVM2 001"),
    member("LVM2_member", Start(0x218), b"LVM2 001"),
    member("LVM2_member", Start(0x418), b"LVM2 001"),
    member("LVM2_member", Start(0x618), b"LVM2 001"),
    member("DM_snapshot_cow", Start(0), b"SnAp"),
    member("DM_verity_hash", Start(0), b"verity\0\0"),
    member("DM_integrity", Start(0), b"integrt\0"),
    member("vdo", Start(0), b"dmvdo001"),
    member("stratis", Start(0x204), b"!Stra0tis\x86\xff\x02^\x41rh"),
    member("stratis", Start(0x1204), b"!Stra0tis\x86\xff\x02^\x41rh"),
    member("oracleasm", Start(0x20), b"ORCLDISK"),
    member("VMFS_volume_member", Start(0x10_0000), b"\x0d\xd0\x01\xc0"),
    // RAID by MD: 0.90 in the last whole 64 KiB but one, 1.0 8 KiB before the end, 1.1 and 1.2 at the beginning.
    member("linux_raid_member", Aligned(0x1_0000, 0x1_0000, 0), MD),
    member("linux_raid_member", Aligned(0x1_0000, 0x1_0000, 0), b"\xa9\x2b\x4e\xfc"),
    member("linux_raid_member", Aligned(0x1000, 0x2000, 0), MD),
    member("linux_raid_member", Start(0), MD),
    member("linux_raid_member", Start(0x1000), MD),
    // RAID by firmware.
    member("ddf_raid_member", End(512), b"\xde\x11\xde\x11"),
    member("ddf_raid_member", End(257 * 512), b"\xde\x11\xde\x11"),
    member("isw_raid_member", End(1024), b"Intel Raid ISM Cfg Sig. "),
    member("isw_raid_member", End(8192), b"Intel Raid ISM Cfg Sig. "),
    member("lsi_mega_raid_member", End(512), b"$XIDE$"),
    member("nvidia_raid_member", End(1024), b"NVIDIA"),
    // Caches, object stores, replication.
    member(
        "bcache",
        Start(0x1018),
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
    ),
    member("ceph_bluestore", Start(0), b"bluestore block device"),
    member("drbd", Aligned(4096, 4096, 60), b"\x83\x74\x02\x67"),
    member("drbd", Aligned(4096, 4096, 60), b"\x83\x74\x02\x6a"),
    member("drbd", Aligned(4096, 4096, 60), b"\x83\x74\x02\x6b"),
    member("drbd", Aligned(4096, 4096, 60), b"\x83\x74\x02\x6d"),
    member("drbd", Aligned(4096, 4096, 60), b"\x83\x74\x02\x6e"),
    // Partition tables; GPT at both ends, for sectors of 512 bytes and of 4 KiB.
    parts("gpt", Start(512), GPT),
    parts("gpt", Start(4096), GPT),
    parts("gpt", End(512), GPT),
    parts("gpt", End(4096), GPT),
    parts("dos", Start(0x1FE), b"\x55\xaa"),
    parts("bsd", Start(0x200), b"\x57\x45\x56\x82"),
    parts("bsd", Start(0x40), b"\x57\x45\x56\x82"),
    parts("bsd", Start(0), b"\x57\x45\x56\x82"),
    parts("sun", Start(0x1FC), b"\xda\xbe"),
    parts("sgi", Start(0), b"\x0b\xe5\xa9\x41"),
    parts("mac", Start(0x200), b"PM\0\0"),
    parts("atari", Start(0x1C6), b"GEM"),
    parts("ldm", Start(0xC00), b"PRIVHEAD"),
];
