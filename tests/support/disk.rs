//! A small disk for one replica's data: a file with a file system, mounted where the
//! data is, so that it can be filled and halted without a word to anybody else.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Enough for a run of minutes above every reserve; the file takes only what is written.
const SIZE: u64 = 1 << 30;

pub struct Disk {
    mounted: PathBuf,
    ballast: PathBuf,
}

impl Disk {
    /// Mounts a new one at `mounted`, with its file beside; or says why it cannot be done here.
    pub fn mount(mounted: &Path) -> Result<Disk, String> {
        let image = mounted.with_extension("image");
        std::fs::create_dir_all(mounted).map_err(|e| format!("{}: {e}", mounted.display()))?;
        let file = std::fs::File::create(&image).map_err(|e| format!("{}: {e}", image.display()))?;
        file.set_len(SIZE).map_err(|e| format!("{}: {e}", image.display()))?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &text(&image)])?;
        run("mount", &["-o", "loop", &text(&image), &text(mounted)])?;
        Ok(Disk { mounted: mounted.into(), ballast: mounted.join("ballast") })
    }

    /// Lets go of disks whose files were below `dir`, and whose owner was killed while they were
    /// halted: the kernel keeps those until somebody resumes them.
    pub fn release_below(dir: &Path) {
        let Ok(devices) = std::fs::read_dir("/sys/block") else { return };
        for device in devices.flatten() {
            let file = std::fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            if !file.starts_with(&format!("{}/", dir.display())) {
                continue;
            }
            let (device, mounted) = (text(&Path::new("/dev").join(device.file_name())), text(&dir.join("released")));
            std::fs::create_dir_all(&mounted).ok();
            // Each may be done already.
            for (program, arguments) in [
                ("mount", &[&*device, &*mounted][..]),
                ("fsfreeze", &["--unfreeze", &mounted]),
                ("umount", &[&*mounted]),
                ("losetup", &["--detach", &device]),
            ] {
                run(program, arguments).ok();
            }
        }
    }

    /// How many bytes are free.
    pub fn free(&self) -> u64 {
        let output = Command::new("df").args(["--output=avail", "-B1"]).arg(&self.mounted).output();
        let output = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        output.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("df says what is free")
    }

    /// Takes all space that is left.
    pub fn fill(&self) {
        let free = self.free();
        // The file's own bookkeeping takes some: then a little less fits.
        let fits = (0..64).any(|step| {
            let size = free.saturating_sub(step * 65_536).to_string();
            run("fallocate", &["-l", &size, &text(&self.ballast)]).is_ok()
        });
        assert!(fits, "the disk can be filled");
        // And the rest, byte by byte, as another program would.
        let more = std::fs::File::options().create(true).append(true).open(self.ballast.with_extension("more"));
        if let Ok(mut more) = more {
            while std::io::Write::write_all(&mut more, &[0; 4096]).is_ok() {}
        }
    }

    /// Gives the space back.
    pub fn empty(&self) {
        std::fs::remove_file(&self.ballast).ok();
        std::fs::remove_file(self.ballast.with_extension("more")).ok();
    }

    /// Whatever is written waits until [`Self::resume`].
    pub fn halt(&self) {
        run("fsfreeze", &["--freeze", &text(&self.mounted)]).ok();
    }

    pub fn resume(&self) {
        run("fsfreeze", &["--unfreeze", &text(&self.mounted)]).ok();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.resume();
        run("umount", &["-l", &text(&self.mounted)]).ok();
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
