//! [`Layout`]: where in the tree a hash has its file. A pure function of block size, depth and hash.

use std::fmt;
use std::path::PathBuf;

use richardstore_proto::ContentHash;
use serde::{Deserialize, Serialize};

/// Hex digits of a hash.
const DIGITS: u8 = 64;
/// A layout with at most this many innermost directories has all of them made when the root is formatted.
const MAX_PREMADE: u64 = 65_536;

/// How deep the directories go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// The whole hash becomes directory names; digits that do not fill a block join the last one.
    Full,
    /// This many directories, from the left of the hash.
    Levels(u8),
}

/// Block size and depth that make no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A directory name needs between 1 and 64 digits.
    #[error("a block size of {0} digits is not between 1 and 64")]
    BlockSize(u8),
    /// There are no levels, or more than the hash has digits for.
    #[error("{levels} levels of {block_size} digits do not fit a hash of 64 digits")]
    Levels {
        /// Digits in one directory name.
        block_size: u8,
        /// Levels asked for.
        levels: u8,
    },
}

/// How a hash is cut into directory names. The file under them is named by the whole hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    block_size: u8,
    depth: Depth,
}

impl Default for Layout {
    /// One level of two digits, 256 directories: as fast as any that was measured, and formatted in tens of
    /// milliseconds, where two such levels take seconds and 256 MiB for their 65,536 directories.
    fn default() -> Self {
        Self {
            block_size: 2,
            depth: Depth::Levels(1),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block size {} and ", self.block_size)?;
        match self.depth {
            Depth::Full => write!(f, "full depth"),
            Depth::Levels(levels) => write!(f, "depth {levels}"),
        }
    }
}

impl Layout {
    /// Directory names of `block_size` hex digits, `depth` of them.
    ///
    /// # Errors
    /// [`LayoutError`] where a hash cannot be cut like that.
    pub fn new(block_size: u8, depth: Depth) -> Result<Self, LayoutError> {
        if !(1..=DIGITS).contains(&block_size) {
            return Err(LayoutError::BlockSize(block_size));
        }
        if let Depth::Levels(levels) = depth {
            let fits = (1..=DIGITS / block_size).contains(&levels);
            if !fits {
                return Err(LayoutError::Levels { block_size, levels });
            }
        }
        Ok(Self { block_size, depth })
    }

    /// Hex digits in one directory name; the last of a full depth may have more.
    pub fn block_size(&self) -> u8 {
        self.block_size
    }

    /// How deep the directories go.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// How many directories are above a file.
    pub fn levels(&self) -> u8 {
        match self.depth {
            Depth::Full => DIGITS / self.block_size,
            Depth::Levels(levels) => levels,
        }
    }

    /// The file of `hash`, relative to the root.
    pub fn relative_path(&self, hash: &ContentHash) -> PathBuf {
        let digits = hash.to_hex();
        let block = usize::from(self.block_size);
        let levels = usize::from(self.levels());
        let mut path = PathBuf::new();
        for level in 0..levels {
            let start = level * block;
            let joins_remainder = self.depth == Depth::Full && level + 1 == levels;
            let end = if joins_remainder {
                digits.len()
            } else {
                start + block
            };
            path.push(&digits[start..end]);
        }
        path.push(digits);
        path
    }

    /// Whether all directories are made when the root is formatted. In the other layouts they come and go with their
    /// files.
    pub fn is_premade(&self) -> bool {
        self.innermost_directories()
            .is_some_and(|count| count <= MAX_PREMADE)
    }

    /// The directories to make when formatting, parents before children, relative to the root. None of them where the
    /// layout is not premade.
    pub(crate) fn premade_directories(&self) -> impl Iterator<Item = PathBuf> {
        let block = usize::from(self.block_size);
        let levels = if self.is_premade() {
            usize::from(self.levels())
        } else {
            0
        };
        (1..=levels).flat_map(move |level| {
            let width = level * block;
            (0u64..1 << (4 * width)).map(move |number| {
                let digits = format!("{number:0width$x}");
                (0..level)
                    .map(|at| &digits[at * block..(at + 1) * block])
                    .collect()
            })
        })
    }

    /// Whether `name` can be a directory with `level` directories above it.
    pub(crate) fn is_directory_name(&self, level: u8, name: &str) -> bool {
        let joins_remainder = self.depth == Depth::Full && level + 1 == self.levels();
        let remainder = if joins_remainder {
            DIGITS % self.block_size
        } else {
            0
        };
        name.len() == usize::from(self.block_size + remainder)
            && name
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    }

    fn innermost_directories(&self) -> Option<u64> {
        match self.depth {
            Depth::Full => None,
            Depth::Levels(levels) => {
                let bits = 4 * u32::from(self.block_size) * u32::from(levels);
                1u64.checked_shl(bits)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    const NAME: &str = "c0c61d6932fc8436ec0a8536ed0f191a0ef8b5e7eec9ac3c2657a7ce319388dc";

    fn path(block_size: u8, depth: Depth) -> String {
        let layout = Layout::new(block_size, depth).unwrap();
        let path = layout.relative_path(&NAME.parse().unwrap());
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn block_size_five_at_full_depth_gives_the_documented_path() {
        let documented =
            "c0c61/d6932/fc843/6ec0a/8536e/d0f19/1a0ef/8b5e7/eec9a/c3c26/57a7c/e319388dc/";
        assert_eq!(path(5, Depth::Full), format!("{documented}{NAME}"));
    }

    #[test]
    fn levels_cut_from_the_left_and_join_nothing() {
        assert_eq!(path(2, Depth::Levels(2)), format!("c0/c6/{NAME}"));
        assert_eq!(path(64, Depth::Full), format!("{NAME}/{NAME}"));
    }

    #[test]
    fn impossible_cuts_are_refused() {
        assert_eq!(Layout::new(0, Depth::Full), Err(LayoutError::BlockSize(0)));
        assert_eq!(
            Layout::new(65, Depth::Full),
            Err(LayoutError::BlockSize(65))
        );
        for levels in [0, 13] {
            assert_eq!(
                Layout::new(5, Depth::Levels(levels)),
                Err(LayoutError::Levels {
                    block_size: 5,
                    levels
                })
            );
        }
    }

    #[test]
    fn premade_directories_are_all_of_a_bounded_layout_and_none_of_another() {
        let two_levels = Layout::new(1, Depth::Levels(2)).unwrap();
        let made: Vec<PathBuf> = two_levels.premade_directories().collect();
        assert_eq!(made.len(), 16 + 256);
        assert_eq!(made[0], PathBuf::from("0"));
        assert_eq!(made[271], PathBuf::from("f/f"));
        assert!(Layout::new(2, Depth::Levels(2)).unwrap().is_premade());
        for lazy in [
            Layout::new(5, Depth::Full).unwrap(),
            Layout::new(1, Depth::Full).unwrap(),
            Layout::new(2, Depth::Levels(3)).unwrap(),
            Layout::new(1, Depth::Levels(64)).unwrap(),
        ] {
            assert_eq!(lazy.premade_directories().count(), 0, "{lazy:?}");
        }
    }

    proptest! {
        #[test]
        fn every_path_ends_in_the_hash_and_lies_in_a_premade_directory(
            hash in any::<[u8; 32]>(), block_size in 1u8..=2, levels in 1u8..=2,
        ) {
            let layout = Layout::new(block_size, Depth::Levels(levels)).unwrap();
            let hash = ContentHash::new(hash);
            let path = layout.relative_path(&hash);
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), hash.to_hex());
            let parent = path.parent().unwrap();
            // The largest of these layouts has 65,536 directories: look in the small ones only.
            if block_size * levels < 4 {
                assert!(layout.premade_directories().any(|made| made == parent));
            }
        }
    }
}
