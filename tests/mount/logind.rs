//! `dds-mount --lock-on-suspend` and `--lock-on-screen-lock`, against a logind of our own on a bus
//! of our own.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::gnupg::piped;
use crate::support::mount::{Home, Mount, is_mounted, process_of, wait_for};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zbus::blocking::{Connection, connection};
use zbus::fdo;
use zbus::zvariant::{self, ObjectPath, OwnedObjectPath, Value};

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const USER_PATH: &str = "/org/freedesktop/login1/user/self";
const MY_SESSION: &str = "/org/freedesktop/login1/session/_31";
const DISPLAY: &str = "/org/freedesktop/login1/session/_32";

/// Long enough for a signal that does something to have done it.
const SETTLED: Duration = Duration::from_millis(500);

const ASLEEP: &str = "--lock-on-suspend";
const AWAY: &str = "--lock-on-screen-lock";

/// A bus on which everybody may do everything.
struct Bus {
    daemon: Child,
    address: String,
}

impl Bus {
    fn start(home: &Home) -> Bus {
        let config = format!(
            r#"<busconfig>
                <type>session</type>
                <listen>unix:path={}</listen>
                <auth>EXTERNAL</auth>
                <policy context="default">
                    <allow send_destination="*" eavesdrop="true"/>
                    <allow eavesdrop="true"/>
                    <allow own="*"/>
                </policy>
            </busconfig>"#,
            home.path("bus").display()
        );
        std::fs::write(home.path("bus.conf"), config).unwrap();
        let mut command = home.command("dbus-daemon");
        command.args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"]);
        command.arg("--config-file").arg(home.path("bus.conf"));
        let mut daemon = command
            .stdout(Stdio::piped())
            // It says that it may not raise its limits.
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed");
        let mut address = String::new();
        let mut said = BufReader::new(daemon.stdout.take().unwrap());
        said.read_line(&mut address).unwrap();
        Bus {
            daemon,
            address: address.trim_end().to_owned(),
        }
    }

    fn connect(&self) -> connection::Builder<'_> {
        connection::Builder::address(self.address.as_str()).unwrap()
    }

    fn end(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Which sessions there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sessions {
    Mine,
    OnlyDisplay,
    None,
}

/// Our ends of the inhibitors that were given out.
type Brakes = Arc<Mutex<Vec<OwnedFd>>>;

struct Manager {
    sessions: Sessions,
    brakes: Brakes,
}

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    fn inhibit(
        &self,
        what: &str,
        who: &str,
        why: &str,
        mode: &str,
    ) -> fdo::Result<zvariant::OwnedFd> {
        assert_eq!((what, who, mode), ("sleep", "DDS", "delay"));
        assert!(!why.is_empty());
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (ours, theirs) = rustix::pipe::pipe_with(flags).unwrap();
        self.brakes.lock().unwrap().push(ours);
        Ok(theirs.into())
    }

    #[zbus(name = "GetSessionByPID")]
    fn get_session_by_pid(&self, pid: u32) -> fdo::Result<OwnedObjectPath> {
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        match self.sessions {
            Sessions::Mine => Ok(ObjectPath::from_static_str_unchecked(MY_SESSION).into()),
            _ => Err(fdo::Error::Failed("in no session".to_owned())),
        }
    }

    fn get_user(&self, uid: u32) -> fdo::Result<OwnedObjectPath> {
        assert_eq!(uid, rustix::process::getuid().as_raw());
        Ok(ObjectPath::from_static_str_unchecked(USER_PATH).into())
    }
}

struct User {
    sessions: Sessions,
}

#[zbus::interface(name = "org.freedesktop.login1.User")]
impl User {
    #[zbus(property)]
    fn display(&self) -> (String, OwnedObjectPath) {
        let (name, path) = match self.sessions {
            Sessions::None => ("", "/"),
            _ => ("2", DISPLAY),
        };
        let path = ObjectPath::from_static_str_unchecked(path);
        (name.to_owned(), path.into())
    }
}

/// A home with a store, a bus, and a logind.
struct WithLogind {
    home: Home,
    bus: Bus,
    logind: Connection,
    brakes: Brakes,
}

impl WithLogind {
    fn new() -> WithLogind {
        Self::with(Sessions::Mine, None)
    }

    fn with(sessions: Sessions, passphrase: Option<&str>) -> WithLogind {
        let home = Home::new();
        let mut init = home.dds();
        init.arg("init").stdout(Stdio::null());
        match passphrase {
            Some(passphrase) => init.args(["--passphrase-fd", "0"]).stdin(piped(passphrase)),
            None => init.arg("--no-passphrase"),
        };
        assert!(init.status().unwrap().success());
        let bus = Bus::start(&home);
        let brakes = Brakes::default();
        let manager = Manager {
            sessions,
            brakes: Arc::clone(&brakes),
        };
        let logind = bus.connect().name(NAME).unwrap();
        let logind = logind.serve_at(PATH, manager).unwrap();
        let logind = logind.serve_at(USER_PATH, User { sessions }).unwrap();
        WithLogind {
            logind: logind.build().unwrap(),
            home,
            bus,
            brakes,
        }
    }

    fn mountpoint(&self) -> PathBuf {
        self.home.path("secure")
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = self.home.dds_mount();
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus.address);
        command.args(options);
        command
    }

    /// Mounts as people do.
    #[track_caller]
    fn mount(&self, options: &[&str]) {
        let mut command = self.command(options);
        let ended = command.arg(self.mountpoint()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*said), (Some(0), ""));
    }

    fn says<B: serde::Serialize + zvariant::DynamicType>(
        &self,
        path: &str,
        interface: &str,
        signal: &str,
        body: &B,
    ) {
        says(&self.logind, path, interface, signal, body);
    }

    fn prepares_for_sleep(&self, begins: bool) {
        self.says(PATH, MANAGER, "PrepareForSleep", &begins);
    }

    fn changes(&self, property: &str, value: bool) {
        let changed = HashMap::from([(property, Value::Bool(value))]);
        let body = (SESSION, changed, Vec::<&str>::new());
        let properties = "org.freedesktop.DBus.Properties";
        self.says(MY_SESSION, properties, "PropertiesChanged", &body);
    }

    fn brakes(&self) -> usize {
        self.brakes.lock().unwrap().len()
    }

    /// Tells whether an inhibitor was let go of.
    fn is_released(&self, which: usize) -> bool {
        let brakes = self.brakes.lock().unwrap();
        let mut wanted = [PollFd::new(&brakes[which], PollFlags::IN)];
        poll(&mut wanted, Some(&Timespec::default())).unwrap();
        wanted[0].revents().contains(PollFlags::HUP)
    }

    #[track_caller]
    fn assert_goes_on(&self) {
        std::thread::sleep(SETTLED);
        assert!(is_mounted(&self.mountpoint()));
        assert!(process_of(&self.mountpoint(), "dds-mount").is_some());
    }

    #[track_caller]
    fn assert_locks(&self) {
        for name in ["dds-mount", "dds-keeper"] {
            wait_for(&format!("{name} ends"), || {
                process_of(&self.mountpoint(), name).is_none()
            });
        }
        assert!(!is_mounted(&self.mountpoint()));
    }

    #[track_caller]
    fn assert_refused(&self, options: &[&str], sentence: &str) {
        let mut command = self.command(options);
        let ended = command.arg(self.mountpoint()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        let begin = "dds-mount: logind cannot be reached: ";
        assert!(lines[0].starts_with(begin), "{said}");
        assert!(lines[0].contains(sentence), "{said}");
        let hint = "dds-mount: hint: leave out --lock-on-suspend";
        assert!(lines[1].starts_with(hint), "{said}");
        assert!(!self.mountpoint().exists());
        self.assert_locks();
    }
}

impl Drop for WithLogind {
    fn drop(&mut self) {
        // Only if a test failed.
        if is_mounted(&self.mountpoint()) {
            let mut away = Command::new("fusermount3");
            let _ = away
                .args(["-u", "-z", "-q"])
                .arg(self.mountpoint())
                .status();
        }
    }
}

fn says<B: serde::Serialize + zvariant::DynamicType>(
    from: &Connection,
    path: &str,
    interface: &str,
    signal: &str,
    body: &B,
) {
    from.emit_signal(None::<&str>, path, interface, signal, body)
        .unwrap();
}

#[test]
fn the_machine_sleeps_when_all_is_locked() {
    needs!(mount);
    let scene = WithLogind::new();
    scene.mount(&[ASLEEP]);
    assert_eq!(scene.brakes(), 1);
    let draft = scene.mountpoint().join("notes/me/draft.txt");
    let mut draft = File::create(draft).unwrap();
    draft.write_all(b"half a note").unwrap();
    assert!(!scene.is_released(0));
    scene.prepares_for_sleep(true);
    wait_for("the inhibitor is released", || scene.is_released(0));
    // Not a moment sooner.
    assert!(!is_mounted(&scene.mountpoint()));
    assert_eq!(process_of(&scene.mountpoint(), "dds-mount"), None);
    assert!(draft.write_all(b"more").is_err());
    scene.assert_locks();
    scene.mount(&[ASLEEP]);
    let rescued = scene.mountpoint().join(".dds/rescued/draft.txt");
    assert_eq!(std::fs::read(rescued).unwrap(), b"half a note");
    // Unmounting lets the machine sleep, too.
    assert!(!scene.is_released(1));
    crate::support::mount::unmount(&scene.mountpoint());
    scene.assert_locks();
    wait_for("the inhibitor is released", || scene.is_released(1));
}

#[test]
fn a_question_for_the_passphrase_keeps_no_machine_awake() {
    needs!(mount);
    let scene = WithLogind::with(Sessions::Mine, Some("correct horse"));
    let fifo = scene.home.path("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let ask = format!("cat {}", fifo.display());
    let mut command = scene.command(&[ASLEEP, AWAY, "--passphrase-command", &ask]);
    let mut mounting = command.arg(scene.mountpoint()).spawn().unwrap();
    wait_for("the first inhibitor", || scene.brakes() == 1);
    // Until somebody reads, the question is not asked.
    let mut answer = File::options().write(true).open(&fifo).unwrap();
    // Nobody who looks through the directory shall wait for it.
    std::fs::remove_file(&fifo).unwrap();
    scene.prepares_for_sleep(true);
    wait_for("the inhibitor is released", || scene.is_released(0));
    scene.prepares_for_sleep(false);
    wait_for("the second inhibitor", || scene.brakes() == 2);
    scene.says(MY_SESSION, SESSION, "Lock", &());
    std::thread::sleep(SETTLED);
    answer.write_all(b"correct horse\n").unwrap();
    drop(answer);
    assert!(mounting.wait().unwrap().success());
    scene.assert_goes_on();
    assert!(!scene.is_released(1));
    scene.prepares_for_sleep(true);
    wait_for("the inhibitor is released", || scene.is_released(1));
    assert!(!is_mounted(&scene.mountpoint()));
    scene.assert_locks();
}

#[test]
fn a_locked_screen_or_the_end_of_the_session_locks() {
    needs!(mount);
    let scene = WithLogind::new();
    let path = ObjectPath::from_static_str_unchecked;
    for round in 0..3 {
        scene.mount(&[AWAY]);
        scene.changes("LockedHint", false);
        scene.changes("IdleHint", true);
        scene.says(DISPLAY, SESSION, "Lock", &());
        scene.says(MY_SESSION, SESSION, "Unlock", &());
        scene.says(PATH, MANAGER, "SessionRemoved", &("2", path(DISPLAY)));
        scene.prepares_for_sleep(true);
        scene.assert_goes_on();
        match round {
            0 => scene.says(MY_SESSION, SESSION, "Lock", &()),
            1 => scene.changes("LockedHint", true),
            _ => scene.says(PATH, MANAGER, "SessionRemoved", &("1", path(MY_SESSION))),
        }
        scene.assert_locks();
    }
    assert_eq!(scene.brakes(), 0, "the screen is no reason to delay sleep");
}

#[test]
fn what_was_not_asked_for_and_what_others_say_does_not_lock() {
    needs!(mount);
    let scene = WithLogind::new();
    let stranger = scene.bus.connect().build().unwrap();
    scene.mount(&[ASLEEP]);
    scene.says(MY_SESSION, SESSION, "Lock", &());
    scene.changes("LockedHint", true);
    says(&stranger, PATH, MANAGER, "PrepareForSleep", &true);
    // Nonsense, of logind itself.
    scene.says(PATH, MANAGER, "PrepareForSleep", &"yes");
    scene.assert_goes_on();
    crate::support::mount::unmount(&scene.mountpoint());
    scene.assert_locks();
    scene.mount(&[AWAY]);
    says(&stranger, MY_SESSION, SESSION, "Lock", &());
    scene.assert_goes_on();
    crate::support::mount::unmount(&scene.mountpoint());
    scene.assert_locks();
    // Nobody listens.
    scene.mount(&[]);
    scene.prepares_for_sleep(true);
    scene.says(MY_SESSION, SESSION, "Lock", &());
    scene.assert_goes_on();
    crate::support::mount::unmount(&scene.mountpoint());
    scene.assert_locks();
}

#[test]
fn a_service_of_the_user_goes_by_the_session_at_the_screen() {
    needs!(mount);
    let scene = WithLogind::with(Sessions::OnlyDisplay, None);
    scene.mount(&[AWAY]);
    scene.says(DISPLAY, SESSION, "Lock", &());
    scene.assert_locks();
}

#[test]
fn without_bus_logind_or_session_nothing_is_mounted() {
    needs!(mount);
    let mut scene = WithLogind::with(Sessions::None, None);
    scene.assert_refused(&[AWAY], "you have no session");
    // Sleep has nothing to do with sessions.
    scene.mount(&[ASLEEP]);
    crate::support::mount::unmount(&scene.mountpoint());
    scene.assert_locks();
    let _ = std::fs::remove_dir(scene.mountpoint());
    crate::support::mount::make_mutable(&scene.mountpoint());
    let _ = std::fs::remove_dir(scene.mountpoint());
    let name = zbus::names::WellKnownName::from_static_str_unchecked(NAME);
    assert!(scene.logind.release_name(name).unwrap());
    scene.assert_refused(&[ASLEEP], NAME);
    scene.bus.end();
    scene.assert_refused(&[ASLEEP], "");
    scene.assert_refused(&[ASLEEP, AWAY], "");
}

#[test]
fn a_bus_that_ends_is_told_and_the_mount_goes_on() {
    needs!(mount);
    let mut scene = WithLogind::new();
    let mount = Mount::start(scene.command(&[ASLEEP, AWAY]), &scene.mountpoint());
    scene.bus.end();
    wait_for("the keeper gives up", || scene.is_released(0));
    scene.assert_goes_on();
    std::fs::write(mount.path("notes/me/a.txt"), "a").unwrap();
    let (code, said) = mount.end_by(libc::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said.matches("logind is not heard any more").count(),
        1,
        "{said}"
    );
    scene.assert_locks();
}
