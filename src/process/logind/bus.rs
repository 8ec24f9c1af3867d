//! logind on the system bus (org.freedesktop.login1(5)).
//!
//! Each signal has a thread that hears it, as zbus waits in its own way; the threads write to a pipe,
//! for the keeper waits in poll(2). Only signals that logind itself sends are believed.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use zbus::Message;
use zbus::blocking::{Connection, Proxy, connection};
use zbus::zvariant::{self, OwnedObjectPath, Value};

use super::{Heard, LockTriggers};
use crate::error::{Error, Kind, Result};

/// logind's name on the bus.
const NAME: &str = "org.freedesktop.login1";
/// Where its manager is.
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const USER: &str = "org.freedesktop.login1.User";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// How long connecting may take, and each answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to logind.
pub struct Logind {
    bus: Connection,
    heard: OwnedFd,
    /// The machine does not sleep while this is open, for as long as logind allows.
    brake: Option<zvariant::OwnedFd>,
}

impl Logind {
    /// Connects, and delays sleep if that is a trigger.
    ///
    /// # Errors
    /// `Io` if there is no bus, no logind on it, or no session whose screen can be locked.
    pub fn connect(triggers: LockTriggers) -> Result<Logind> {
        // A bus that accepts, and says nothing, must not keep anybody waiting.
        let (done, connected) = mpsc::channel();
        std::thread::spawn(move || done.send(Self::try_connect(triggers)));
        match connected.recv_timeout(PATIENCE) {
            Ok(connected) => connected.map_err(|error| Error::new(Kind::Io, error.to_string())),
            Err(_) => Err(Error::new(Kind::Io, "it does not answer")),
        }
    }

    fn try_connect(triggers: LockTriggers) -> zbus::Result<Logind> {
        let bus = connection::Builder::system()?.method_timeout(PATIENCE);
        let bus = bus.build()?;
        let (heard, told) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| zbus::Error::from(std::io::Error::from(errno)))?;
        let listener = Listener {
            bus: bus.clone(),
            told: Arc::new(told),
        };
        if triggers.screen_lock {
            listener.hear_screen(session(&bus)?)?;
        }
        let mut brake = None;
        if triggers.suspend {
            // Before the brake is there, so that it is let go of whenever that is waited for.
            listener.hear_sleep()?;
            brake = Some(inhibit(&bus)?);
        }
        Ok(Logind { bus, heard, brake })
    }

    /// Waits for the next signal, and returns it.
    pub fn hear(&self) -> Heard {
        let mut told = [0];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.heard, &mut told)) {
            Ok(1) => [Heard::Sleep, Heard::Wake, Heard::ScreenLock]
                .into_iter()
                .find(|heard| *heard as u8 == told[0])
                .unwrap_or(Heard::Lost),
            _ => Heard::Lost,
        }
    }

    /// Lets the machine sleep.
    pub fn let_sleep(&mut self) {
        self.brake = None;
    }

    /// Delays the next sleep.
    ///
    /// # Errors
    /// `Io` if logind refuses, or cannot be reached.
    pub fn delay_sleep(&mut self) -> Result<()> {
        let brake = inhibit(&self.bus);
        self.brake = Some(brake.map_err(|error| Error::new(Kind::Io, error.to_string()))?);
        Ok(())
    }
}

impl AsFd for Logind {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }
}

/// Starts the threads that hear.
struct Listener {
    bus: Connection,
    told: Arc<OwnedFd>,
}

impl Listener {
    fn hear_sleep(&self) -> zbus::Result<()> {
        self.hear(PATH, MANAGER, "PrepareForSleep", |message| {
            let begins: bool = message.body().deserialize().ok()?;
            match begins {
                true => Some(Heard::Sleep),
                false => Some(Heard::Wake),
            }
        })
    }

    /// A session that ended is as good as locked: nothing would ever be heard of it again.
    fn hear_screen(&self, session: OwnedObjectPath) -> zbus::Result<()> {
        let path = session.as_str();
        self.hear(path, SESSION, "Lock", |_| Some(Heard::ScreenLock))?;
        self.hear(path, PROPERTIES, "PropertiesChanged", |message| {
            let body = message.body();
            type Changed<'a> = (&'a str, HashMap<&'a str, Value<'a>>, Vec<&'a str>);
            let (interface, changed, _): Changed<'_> = body.deserialize().ok()?;
            let locked = interface == SESSION && changed.get("LockedHint")? == &Value::Bool(true);
            locked.then_some(Heard::ScreenLock)
        })?;
        self.hear(PATH, MANAGER, "SessionRemoved", move |message| {
            let removed: (String, OwnedObjectPath) = message.body().deserialize().ok()?;
            (removed.1 == session).then_some(Heard::ScreenLock)
        })
    }

    /// Hears one signal for as long as the bus lasts.
    fn hear(
        &self,
        path: &str,
        interface: &'static str,
        signal: &'static str,
        meaning: impl Fn(&Message) -> Option<Heard> + Send + 'static,
    ) -> zbus::Result<()> {
        let proxy = Proxy::new(&self.bus, NAME, path.to_owned(), interface)?;
        let mut signals = proxy.receive_signal(signal)?;
        let told = Arc::clone(&self.told);
        let thread = std::thread::Builder::new().name("logind".to_owned());
        thread.spawn(move || {
            let heard = signals.by_ref().filter_map(|message| meaning(&message));
            for heard in heard.chain([Heard::Lost]) {
                // If nobody reads it the keeper wants to hear no more.
                let _ = rustix::io::write(&told, &[heard as u8]);
            }
        })?;
        Ok(())
    }
}

/// Takes a brake on sleep.
fn inhibit(bus: &Connection) -> zbus::Result<zvariant::OwnedFd> {
    let words = ("sleep", "DDS", "locks what is mounted", "delay");
    let answer = bus.call_method(Some(NAME), PATH, Some(MANAGER), "Inhibit", &words)?;
    answer.body().deserialize()
}

/// Finds the session of this process; else, as for services of the user, the one in which the
/// user sits at a screen.
fn session(bus: &Connection) -> zbus::Result<OwnedObjectPath> {
    let ask = |method: &str, number: u32| -> zbus::Result<OwnedObjectPath> {
        let answer = bus.call_method(Some(NAME), PATH, Some(MANAGER), method, &number)?;
        answer.body().deserialize()
    };
    if let Ok(session) = ask("GetSessionByPID", std::process::id()) {
        return Ok(session);
    }
    let user = ask("GetUser", rustix::process::getuid().as_raw())?;
    let which = (USER, "Display");
    let answer = bus.call_method(Some(NAME), &user, Some(PROPERTIES), "Get", &which)?;
    let display: zvariant::OwnedValue = answer.body().deserialize()?;
    let (name, path) = <(String, OwnedObjectPath)>::try_from(display)?;
    match name.is_empty() {
        false => Ok(path),
        true => Err(zbus::Error::Failure("you have no session".to_owned())),
    }
}
