//! `.tar.gz` files in memory: a chart as registries hold it, a release as one file. No I/O.

use std::{
    collections::btree_map::Entry,
    io::{self, Read as _},
};

use flate2::{Compression, GzBuilder, bufread::GzDecoder};
use tar::{EntryType, Header};

use super::files::Files;

/// Bytes that an archive may unpack to, so that a small file can't fill the memory. A release of Istio has about three
/// million.
const MAX_UNPACKED: u64 = 64 << 20;

/// An archive is not to be trusted, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadArchiveError {
    /// Every gzip file carries a checksum and its length.
    #[error("it is no gzip file, or it is damaged or cut off")]
    Gzip(#[source] io::Error),
    /// Somebody added to it.
    #[error("{0} bytes follow its end")]
    Trailing(usize),
    /// Nothing of ours is that large.
    #[error("unpacked it has more than {} MiB", MAX_UNPACKED >> 20)]
    TooLarge,
    /// The checksum is right, so it was made like that.
    #[error("the tar file in it is damaged")]
    Tar(#[source] io::Error),
    /// A link can point anywhere, and what it points to has no digest.
    #[error("{0:?} in it is neither a file nor a folder")]
    NotAFile(String),
    /// Unpacked as it stands, the file could end up anywhere.
    #[error("{0:?} in it is no path below a folder")]
    Path(String),
    /// Which one counts would hang on who reads it.
    #[error("{0:?} is in it twice")]
    Twice(String),
}

/// All files of an archive by their paths, with `/` between the parts, each of which is an ordinary name.
pub(super) fn unpack(archive: &[u8]) -> Result<Files, ReadArchiveError> {
    let tar = gunzip(archive)?;
    let mut files = Files::new();
    let mut archive = tar::Archive::new(tar.as_slice());
    for entry in archive.entries().map_err(ReadArchiveError::Tar)? {
        let mut entry = entry.map_err(ReadArchiveError::Tar)?;
        let kind = entry.header().entry_type();
        // Folders are made for the files in them; global headers say where an archive came from.
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
            Entry::Occupied(known) => return Err(ReadArchiveError::Twice(known.key().clone())),
        };
    }
    Ok(files)
}

fn gunzip(archive: &[u8]) -> Result<Vec<u8>, ReadArchiveError> {
    let mut decoder = GzDecoder::new(archive);
    let mut content = Vec::new();
    // One byte more than is allowed, so that reaching the limit can be told from the end, where the checksum is compared.
    decoder.by_ref().take(MAX_UNPACKED + 1).read_to_end(&mut content).map_err(ReadArchiveError::Gzip)?;
    if content.len() as u64 > MAX_UNPACKED {
        return Err(ReadArchiveError::TooLarge);
    }
    match decoder.into_inner().len() {
        0 => Ok(content),
        more => Err(ReadArchiveError::Trailing(more)),
    }
}

/// The path, if it leads nowhere but down. A leading `./` is what `tar` writes for the folder that it packs.
fn safe(path: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(path).ok()?;
    let text = text.strip_prefix("./").unwrap_or(text);
    let ordinary = |part: &str| !matches!(part, "" | "." | "..");
    let plain = text.split('/').all(ordinary) && !text.chars().any(|c| c.is_control() || c == '\\');
    plain.then(|| text.to_owned())
}

/// Packs files. The same files give the same bytes: there are no dates and owners in them.
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

    /// An archive with one entry whose name is written as it is: the library itself refuses to write bad ones.
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
        fn what_is_packed_comes_out_again_and_twice_packed_is_the_same(
            files in prop::collection::btree_map("[a-z]{1,9}(/[a-z.]{3,120}x)?", prop::collection::vec(any::<u8>(), 0..600), 0..9)
        ) {
            let archive = pack(&files).unwrap();
            prop_assert_eq!(&pack(&files).unwrap(), &archive);
            prop_assert_eq!(unpack(&archive).unwrap(), files);
        }
    }

    #[test]
    fn an_archive_that_is_cut_off_anywhere_is_refused() {
        let archive = pack(&files([("a/b", "content"), ("c", "more of it")])).unwrap();
        for end in 0..archive.len() {
            let error = unpack(&archive[..end]).unwrap_err();
            assert!(matches!(error, ReadArchiveError::Gzip(_)), "{end}: {error}");
        }
    }

    #[test]
    fn no_changed_byte_of_the_content_goes_unnoticed() {
        const HEADER: usize = 10;
        let original = files([("a/b", "content"), ("c", "more of it")]);
        let archive = pack(&original).unwrap();
        for at in HEADER..archive.len() {
            let mut damaged = archive.clone();
            damaged[at] ^= 1;
            // Some bits of a deflated stream say the same in two ways.
            assert!(unpack(&damaged).is_err() || unpack(&damaged).unwrap() == original, "byte {at}");
        }
    }

    #[test]
    fn what_follows_the_end_is_refused() {
        let mut archive = pack(&files([("a", "1")])).unwrap();
        archive.extend_from_slice(b"more");
        assert!(matches!(unpack(&archive), Err(ReadArchiveError::Trailing(4))));
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused_by_its_name() {
        for name in ["../a", "/etc/passwd", "a/../../b", "a//b", "a/./b", "a\\..\\b", "a\nb", "..", "."] {
            let error = unpack(&with_entry(name, EntryType::Regular)).unwrap_err();
            assert!(matches!(&error, ReadArchiveError::Path(path) if path == name), "{name}: {error}");
        }
        assert_eq!(unpack(&with_entry("./a", EntryType::Regular)).unwrap(), files([("a", "x")]));
    }

    #[test]
    fn links_and_devices_are_refused() {
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Fifo] {
            assert!(matches!(unpack(&with_entry("a", kind)), Err(ReadArchiveError::NotAFile(_))), "{kind:?}");
        }
    }

    #[test]
    fn a_file_that_is_there_twice_is_refused() {
        let mut tar = tar::Builder::new(Vec::new());
        for content in ["1", "2"] {
            let mut header = Header::new_gnu();
            header.set_size(1);
            tar.append_data(&mut header, "a", content.as_bytes()).unwrap();
        }
        assert!(matches!(unpack(&gzip(&tar.into_inner().unwrap())), Err(ReadArchiveError::Twice(path)) if path == "a"));
    }

    #[test]
    fn a_small_file_cannot_fill_the_memory() {
        let zeros = vec![0; usize::try_from(MAX_UNPACKED).unwrap() + 1];
        assert!(matches!(unpack(&gzip(&zeros)), Err(ReadArchiveError::TooLarge)));
    }

    #[test]
    fn a_tar_file_that_ends_within_a_file_is_refused() {
        const CONTENT: usize = 512;
        let archive = pack(&files([("a", "content")])).unwrap();
        let tar = gunzip(&archive).unwrap();
        assert!(matches!(unpack(&gzip(&tar[..CONTENT + 3])), Err(ReadArchiveError::Tar(_))));
    }
}
