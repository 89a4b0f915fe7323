//! [`LoopDisk`]: an ext4 of its own in a file, which can lose power and can be full. Needs root on Linux.
//!
//! A power cut drops whatever no sync has brought to the disk, so it finds a missing sync. It does not find a missing
//! barrier: the image itself is kept whole by the machine's own filesystem.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait_until;

/// How long killed processes may keep the disk busy.
const BUSY_LIMIT: Duration = Duration::from_secs(30);

/// Size of the disk that shows whether there can be any.
const TRIAL_BYTES: u64 = 8 << 20;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: from here on nothing reaches the disk, not even the journal.
/// Rust has no safe way to make this call; Perl can, and is part of every Debian, however small.
const SHUTDOWN: &str = r#"my $flags = pack("L", 2);
open(my $disk, "<", $ARGV[0]) or die "open: $!\n";
ioctl($disk, 0x8004587d, $flags) or die "ioctl: $!\n";"#;

/// A mounted filesystem. Dropping it unmounts it and removes its image.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    mount_point: PathBuf,
}

impl LoopDisk {
    /// Makes and mounts a disk of `bytes` at `directory/name`, its image beside it. `directory` must not be a tmpfs.
    ///
    /// # Errors
    /// When this machine cannot: no root, no loop devices, no `mkfs.ext4`.
    pub fn create(directory: &Path, name: &str, bytes: u64) -> Result<Self> {
        let disk = Self {
            image: directory.join(format!("{name}.ext4")),
            mount_point: directory.join(name),
        };
        fs::create_dir(&disk.mount_point)?;
        File::create_new(&disk.image)?.set_len(bytes)?;
        // No blocks kept back for root: the tests run as root, and what `df` says is what there is.
        run(
            "mkfs.ext4",
            &["-q".as_ref(), "-m0".as_ref(), disk.image.as_ref()],
        )?;
        disk.mount()?;
        Ok(disk)
    }

    /// Why there can be no such disk here; `None` when a small one was made, lost power and came back.
    pub async fn obstacle(directory: &Path) -> Option<String> {
        let trial = async {
            let disk = Self::create(directory, "trial-disk", TRIAL_BYTES)?;
            disk.power_cut()?;
            disk.remount().await
        };
        trial.await.err().map(|error| format!("{error:#}"))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// When the filesystem does not say.
    pub fn available_bytes(&self) -> Result<u64> {
        let space = rustix::fs::statvfs(&self.mount_point)?;
        Ok(space.f_bavail * space.f_frsize)
    }

    /// Drops everything that is not on the disk, and lets nothing reach it any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn power_cut(&self) -> Result<()> {
        run(
            "perl",
            &["-e".as_ref(), SHUTDOWN.as_ref(), self.mount_point.as_ref()],
        )
    }

    /// Unmounts and mounts it again: after a power cut the journal is replayed. Whoever used it must be gone, or about to.
    ///
    /// # Errors
    /// When somebody still uses it after 30 s, or it does not mount. It is never unmounted lazily here: the old mount
    /// would live on and the new one would join it, with everything in memory that the cut was to drop.
    pub async fn remount(&self) -> Result<()> {
        let gone = async || self.unmount(&[]).is_ok();
        wait_until("nobody uses the disk", BUSY_LIMIT, gone).await?;
        self.mount()
    }

    fn mount(&self) -> Result<()> {
        let options = ["-t", "ext4", "-o", "loop"].map(OsStr::new);
        let what = [self.image.as_ref(), self.mount_point.as_ref()];
        run("mount", &[&options[..], &what].concat())
    }

    fn unmount(&self, options: &[&OsStr]) -> Result<()> {
        run("umount", &[options, &[self.mount_point.as_ref()]].concat())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Nobody mounts it again, so that a straggler may keep it until it ends.
        if let Err(error) = self.unmount(&["--lazy".as_ref()]) {
            eprintln!("{error:#}");
        }
        for removed in [
            fs::remove_dir(&self.mount_point),
            fs::remove_file(&self.image),
        ] {
            if let Err(error) = removed {
                eprintln!("{}: {error}", self.mount_point.display());
            }
        }
    }
}

fn run(program: &str, arguments: &[&OsStr]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program}: {}, {}", output.status, said.trim());
    }
    Ok(())
}
