use super::{Directory, write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hopgap-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_planted_link_is_replaced_and_its_target_untouched() {
    let folder = Folder::new("planted");
    let target = folder.at("target");
    std::fs::write(&target, "precious").unwrap();
    // The file itself, the name that earlier versions wrote to first, and today's.
    let today = format!(".report.txt.{}-0.new", std::process::id());
    for name in ["report.txt", ".report.txt.new", today.as_str()] {
        symlink(&target, folder.at(name)).unwrap();
    }
    let directory = Directory::create(&folder.0).unwrap();
    let written = directory.write("report.txt", b"the report").unwrap();
    assert_eq!(written, folder.at("report.txt"));
    assert!(!written.is_symlink());
    assert_eq!(read(&written), "the report");
    assert_eq!(read(&target), "precious");
    // The same for one file alone.
    symlink(&target, folder.at("one.txt")).unwrap();
    write(&folder.at("one.txt"), b"one").unwrap();
    assert_eq!(read(&folder.at("one.txt")), "one");
    assert_eq!(read(&target), "precious");
}

#[test]
fn the_directory_is_the_one_that_was_opened() {
    let folder = Folder::new("moved");
    let directory = Directory::create(&folder.at("out")).unwrap();
    std::fs::create_dir(folder.at("elsewhere")).unwrap();
    std::fs::rename(folder.at("out"), folder.at("moved")).unwrap();
    symlink(folder.at("elsewhere"), folder.at("out")).unwrap();
    directory.write("report.txt", b"the report").unwrap();
    assert_eq!(read(&folder.at("moved/report.txt")), "the report");
    assert!(!folder.at("elsewhere/report.txt").exists());
}

#[test]
fn a_link_of_ones_own_is_followed_and_a_pipe_is_written_to() {
    let folder = Folder::new("own");
    std::fs::create_dir(folder.at("real")).unwrap();
    symlink(folder.at("real"), folder.at("link")).unwrap();
    let directory = Directory::create(&folder.at("link")).unwrap();
    directory.write("report.txt", b"the report").unwrap();
    assert_eq!(read(&folder.at("real/report.txt")), "the report");

    let pipe = folder.at("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || read(&pipe)
    });
    write(&pipe, b"through it").unwrap();
    assert_eq!(reader.join().unwrap(), "through it");
    write(Path::new("/dev/null"), b"nothing").unwrap();
    assert!(write(&folder.at("missing/report.txt"), b"x").is_err());
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let folder = Folder::new("fails");
    std::fs::create_dir(folder.at("report.txt")).unwrap();
    let directory = Directory::create(&folder.0).unwrap();
    directory.write("report.txt", b"x").unwrap_err();
    let left: Vec<_> = std::fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
