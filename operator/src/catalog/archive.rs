//! Reads and writes `.tar.gz` archives in memory: charts from a registry, exported releases. No I/O.

use std::{
    collections::btree_map::Entry,
    io::{self, Read as _},
};

use flate2::{Compression, GzBuilder, bufread::GzDecoder};
use tar::{EntryType, Header};

use super::files::Files;

/// Limit of the unpacked size of a release in bytes, against decompression bombs. An Istio release has about three
/// million.
pub(super) const MAX_UNPACKED: u64 = 8 << 20;
/// The most bytes of a file's header in an archive, and of the padding after the file.
const FILE_OVERHEAD: usize = 1024;

/// An archive is damaged or unsafe to unpack.
#[derive(Debug, thiserror::Error)]
pub enum ReadArchiveError {
    /// Detected by gzip's own checksum and length.
    #[error("not a gzip file, or the file is damaged or truncated")]
    Gzip(#[source] io::Error),
    /// Data after the end of the gzip stream has no checksum.
    #[error("{0} bytes of trailing data")]
    Trailing(usize),
    /// No release is this large.
    #[error("the unpacked files of the release exceed {} MiB", MAX_UNPACKED >> 20)]
    TooLarge,
    /// The checksum matches, so the archive was created like this.
    #[error("the tar archive is malformed")]
    Tar(#[source] io::Error),
    /// A link can point anywhere, and its target has no digest.
    #[error("{0:?} is neither a regular file nor a directory")]
    NotAFile(String),
    /// Such a path could write outside the target directory.
    #[error("{0:?} is not a relative path inside the archive")]
    Path(String),
    /// Which of the two counts depends on the reader.
    #[error("duplicate entry {0:?}")]
    Duplicate(String),
}

/// Returns the files of an archive by path; `safe` validates each path.
pub(super) fn unpack(archive: &[u8]) -> Result<Files, ReadArchiveError> {
    unpack_within(archive, MAX_UNPACKED)
}

/// What files take of the limit of their release.
pub(super) fn unpacked_size(files: &Files) -> u64 {
    files.values().map(|content| (content.len() + FILE_OVERHEAD) as u64).sum()
}

/// Like [`unpack`], with a lower limit of the unpacked size.
pub(super) fn unpack_within(archive: &[u8], limit: u64) -> Result<Files, ReadArchiveError> {
    let tar = gunzip(archive, limit)?;
    let mut files = Files::new();
    let mut archive = tar::Archive::new(tar.as_slice());
    for entry in archive.entries().map_err(ReadArchiveError::Tar)? {
        let mut entry = entry.map_err(ReadArchiveError::Tar)?;
        let kind = entry.header().entry_type();
        // Directories are implied by the files in them; global headers have metadata only.
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let raw = entry.path_bytes().into_owned();
        if !kind.is_file() {
            return Err(ReadArchiveError::NotAFile(String::from_utf8_lossy(&raw).into_owned()));
        }
        let path = safe(&raw).ok_or_else(|| ReadArchiveError::Path(String::from_utf8_lossy(&raw).into_owned()))?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(ReadArchiveError::Tar)?;
        if content.len() as u64 != entry.size() {
            return Err(ReadArchiveError::Tar(io::ErrorKind::UnexpectedEof.into()));
        }
        match files.entry(path) {
            Entry::Vacant(slot) => slot.insert(content),
            Entry::Occupied(known) => return Err(ReadArchiveError::Duplicate(known.key().clone())),
        };
    }
    Ok(files)
}

fn gunzip(archive: &[u8], limit: u64) -> Result<Vec<u8>, ReadArchiveError> {
    let mut decoder = GzDecoder::new(archive);
    let mut content = Vec::new();
    // Reads one byte over the limit, to distinguish a too large archive from one whose end, with the checksum, was reached.
    decoder.by_ref().take(limit + 1).read_to_end(&mut content).map_err(ReadArchiveError::Gzip)?;
    if content.len() as u64 > limit {
        return Err(ReadArchiveError::TooLarge);
    }
    match decoder.into_inner().len() {
        0 => Ok(content),
        more => Err(ReadArchiveError::Trailing(more)),
    }
}

/// Returns the path if it stays inside the archive. `tar` writes a leading `./` for the directory that it packs.
fn safe(path: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(path).ok()?;
    let text = text.strip_prefix("./").unwrap_or(text);
    let ordinary = |part: &str| !matches!(part, "" | "." | "..");
    let plain = text.split('/').all(ordinary) && !text.chars().any(|c| c.is_control() || c == '\\');
    plain.then(|| text.to_owned())
}

/// Packs files reproducibly: without timestamps and owners.
pub(super) fn pack(files: &Files) -> io::Result<Vec<u8>> {
    const NO_SYSTEM: u8 = 255;
    let gzip = GzBuilder::new().mtime(0).operating_system(NO_SYSTEM).write(Vec::new(), Compression::best());
    let mut tar = tar::Builder::new(gzip);
    for (path, content) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content.as_slice())?;
    }
    tar.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn files<const N: usize>(files: [(&str, &str); N]) -> Files {
        files.into_iter().map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).collect()
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
        gzip.write_all(content).unwrap();
        gzip.finish().unwrap()
    }

    /// An archive with one entry of any name: the library's own writer refuses unsafe names.
    fn with_entry(name: &str, kind: EntryType) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(1);
        header.set_cksum();
        let mut tar = tar::Builder::new(Vec::new());
        tar.append(&header, &b"x"[..]).unwrap();
        gzip(&tar.into_inner().unwrap())
    }

    proptest! {
        #[test]
        fn packs_reproducibly_and_unpacks_same_files(
            files in prop::collection::btree_map("[a-z]{1,9}(/[a-z.]{3,120}x)?", prop::collection::vec(any::<u8>(), 0..600), 0..9)
        ) {
            let archive = pack(&files).unwrap();
            prop_assert_eq!(&pack(&files).unwrap(), &archive);
            prop_assert_eq!(unpack(&archive).unwrap(), files);
        }
    }

    #[test]
    fn rejects_truncated_archive() {
        let archive = pack(&files([("a/b", "content"), ("c", "more of it")])).unwrap();
        for end in 0..archive.len() {
            let error = unpack(&archive[..end]).unwrap_err();
            assert!(matches!(error, ReadArchiveError::Gzip(_)), "{end}: {error}");
        }
    }

    #[test]
    fn detects_changed_bytes() {
        const HEADER: usize = 10;
        let original = files([("a/b", "content"), ("c", "more of it")]);
        let archive = pack(&original).unwrap();
        for at in HEADER..archive.len() {
            let mut damaged = archive.clone();
            damaged[at] ^= 1;
            // A deflate stream can encode the same content in two ways.
            assert!(unpack(&damaged).is_err() || unpack(&damaged).unwrap() == original, "byte {at}");
        }
    }

    #[test]
    fn rejects_trailing_data() {
        let mut archive = pack(&files([("a", "1")])).unwrap();
        archive.extend_from_slice(b"more");
        assert!(matches!(unpack(&archive), Err(ReadArchiveError::Trailing(4))));
    }

    #[test]
    fn rejects_unsafe_paths() {
        for name in ["../a", "/etc/passwd", "a/../../b", "a//b", "a/./b", "a\\..\\b", "a\nb", "..", "."] {
            let error = unpack(&with_entry(name, EntryType::Regular)).unwrap_err();
            assert!(matches!(&error, ReadArchiveError::Path(path) if path == name), "{name}: {error}");
        }
        assert_eq!(unpack(&with_entry("./a", EntryType::Regular)).unwrap(), files([("a", "x")]));
    }

    #[test]
    fn rejects_links_and_devices() {
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Fifo] {
            assert!(matches!(unpack(&with_entry("a", kind)), Err(ReadArchiveError::NotAFile(_))), "{kind:?}");
        }
    }

    #[test]
    fn rejects_duplicate_entry() {
        let mut tar = tar::Builder::new(Vec::new());
        for content in ["1", "2"] {
            let mut header = Header::new_gnu();
            header.set_size(1);
            tar.append_data(&mut header, "a", content.as_bytes()).unwrap();
        }
        assert!(
            matches!(unpack(&gzip(&tar.into_inner().unwrap())), Err(ReadArchiveError::Duplicate(path)) if path == "a")
        );
    }

    #[test]
    fn rejects_decompression_bomb() {
        let zeros = vec![0; usize::try_from(MAX_UNPACKED).unwrap() + 1];
        assert!(matches!(unpack(&gzip(&zeros)), Err(ReadArchiveError::TooLarge)));
    }

    #[test]
    fn limit_applies_to_all_charts_together() {
        let content = "x".repeat(10_000);
        let archive = pack(&files([("a", &content), ("b", &content)])).unwrap();
        let unpacked = unpack_within(&archive, 30_000).unwrap();
        let left = 30_000 - unpacked_size(&unpacked);
        assert!(matches!(unpack_within(&archive, left), Err(ReadArchiveError::TooLarge)), "{left}");
        assert!(unpack_within(&archive, 2 * unpacked_size(&unpacked)).is_ok());
    }

    #[test]
    fn rejects_truncated_tar() {
        const CONTENT: usize = 512;
        let archive = pack(&files([("a", "content")])).unwrap();
        let tar = gunzip(&archive, MAX_UNPACKED).unwrap();
        assert!(matches!(unpack(&gzip(&tar[..CONTENT + 3])), Err(ReadArchiveError::Tar(_))));
    }
}
