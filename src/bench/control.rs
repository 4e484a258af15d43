//! The control plane under load: each operation is a client's whole life, Allocate with its 401, then Refresh with
//! lifetime 0, each from a port of its own. Many at once, each waiting for its answers.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::figures::micros;
use super::histogram::Histogram;
use super::link::Link;
use super::process::Process;
use super::session::{Login, Session, Verdict, allocate, release};
use super::setup::Plan;
use crate::clock;
use crate::net::sys::Poller;
use crate::relay::Transport;
use crate::relay::stun::method;

/// A request without an answer is sent again after this, in nanoseconds.
const AGAIN: u64 = 500_000_000;
/// How often before the operation has failed.
const TRIES: u32 = 6;
/// How long operations under way may take when the time is over.
const ENDING: Duration = Duration::from_secs(5);

/// What the control plane did.
#[derive(Clone, Debug, Default)]
pub struct ControlFigures {
    pub time: Duration,
    /// Whole operations.
    pub operations: u64,
    /// Refused, or not answered.
    pub failed: u64,
    /// The code of the last refusal.
    pub last_refusal: Option<u16>,
    /// Of an operation: three requests and their answers.
    pub latency: Histogram,
    pub cpu: Option<u64>,
}

impl ControlFigures {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The server's CPU time for each, in nanoseconds.
    pub fn cpu_per_operation(&self) -> Option<f64> {
        Some(self.cpu? as f64 / self.operations.max(1) as f64)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "seconds": self.time.as_secs_f64(),
            "operations": self.operations,
            "operations_per_second": self.rate().round(),
            "failed": self.failed,
            "last_refusal": self.last_refusal,
            "server_cpu_ns_per_operation": self.cpu_per_operation().map(f64::round),
            "latency_us": {
                "p50": micros(self.latency.quantile(0.5)),
                "p99": micros(self.latency.quantile(0.99)),
                "p99_9": micros(self.latency.quantile(0.999)),
                "max": micros(self.latency.quantile(1.0)),
            },
        })
    }
}

/// One client at a time; when it is done the next takes its place.
struct Worker {
    socket: UdpSocket,
    session: Session,
    is_releasing: bool,
    begun: u64,
    asked: u64,
    tries: u32,
    request: Vec<u8>,
}

/// Keeps `parallel` operations under way for `time`.
pub fn run(plan: &Plan, parallel: usize, time: Duration, process: Option<&Process>) -> io::Result<ControlFigures> {
    if plan.transport != Transport::Udp {
        return Err(io::Error::other("--control measures UDP"));
    }
    let start = clock::stopwatch();
    let mut course = Course { plan, start, figures: ControlFigures::default(), poller: Poller::new()? };
    let mut workers = (0..parallel).map(|number| course.worker(number).map(Some)).collect::<io::Result<Vec<_>>>()?;
    let before = process.and_then(Process::cpu);
    course.run(&mut workers, time.as_nanos() as u64, true)?;
    let mut figures = course.figures.clone();
    figures.time = start.elapsed();
    if let (Some(process), Some(before)) = (process, before) {
        figures.cpu = process.cpu().map(|after| after.saturating_sub(before));
    }
    // What is under way is brought to its end, so that no allocation stays behind.
    let until = start.elapsed() + ENDING;
    course.run(&mut workers, until.as_nanos() as u64, false)?;
    Ok(figures)
}

struct Course<'a> {
    plan: &'a Plan,
    start: Instant,
    figures: ControlFigures,
    poller: Poller,
}

impl Course<'_> {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Serves `workers` until `end`; when one is done another takes its place, or none.
    fn run(&mut self, workers: &mut [Option<Worker>], end: u64, goes_on: bool) -> io::Result<()> {
        let mut ready = Vec::new();
        let mut next_look = self.now() + AGAIN;
        loop {
            self.poller.wait(1, &mut ready)?;
            let now = self.now();
            if now >= end || workers.iter().all(Option::is_none) {
                return Ok(());
            }
            let is_late = now >= next_look;
            if is_late {
                next_look = now + AGAIN / 4;
            }
            let all = if is_late { 0..workers.len() } else { 0..0 };
            for (number, has_answer) in
                ready.iter().map(|ready| (ready.token as usize, true)).chain(all.zip([false].into_iter().cycle()))
            {
                let Some(Some(worker)) = workers.get_mut(number) else { continue };
                let lives = if has_answer { self.turn(worker)? } else { self.is_alive(worker, now) };
                if !lives {
                    workers[number] = if goes_on { Some(self.worker(number)?) } else { None };
                }
            }
        }
    }

    /// A new client that has asked for its allocation.
    fn worker(&self, number: usize) -> io::Result<Worker> {
        let Link::Udp(socket) = Link::udp(self.plan.server, false)? else {
            return Err(io::Error::other("--control measures UDP"));
        };
        socket.set_nonblocking(true)?;
        self.poller.add(socket.as_fd(), number as u64)?;
        let session = Session::new(&self.plan.login, number as u32, self.plan.expires);
        let now = self.now();
        let mut worker =
            Worker { socket, session, is_releasing: false, begun: now, asked: now, tries: 0, request: Vec::new() };
        worker.ask(now)?;
        Ok(worker)
    }

    /// Takes an answer; false when the client's life is over.
    fn turn(&mut self, worker: &mut Worker) -> io::Result<bool> {
        let mut buffer = [0; 1024];
        // An error may be an ICMP one; the request is sent again in time.
        let Ok(length) = worker.socket.recv(&mut buffer) else { return Ok(true) };
        let answer = buffer.get(..length).unwrap_or_default();
        // Another id: the answer to a request that was sent twice.
        if answer.get(8..20) != worker.request.get(8..20) {
            return Ok(true);
        }
        match worker.session.judge(answer) {
            Verdict::Refused(code) => {
                self.figures.failed += 1;
                self.figures.last_refusal = Some(code);
                return Ok(false);
            }
            Verdict::Done if worker.is_releasing => {
                self.figures.operations += 1;
                self.figures.latency.add(self.now().saturating_sub(worker.begun));
                return Ok(false);
            }
            Verdict::Done => worker.is_releasing = true,
            Verdict::Again => {}
        }
        worker.ask(self.now())?;
        Ok(true)
    }

    /// Sends again what was not answered; false when that was tried long enough.
    fn is_alive(&mut self, worker: &mut Worker, now: u64) -> bool {
        if now < worker.asked + AGAIN {
            return true;
        }
        worker.tries += 1;
        worker.asked = now;
        let _ = worker.socket.send(&worker.request);
        let is_alive = worker.tries < TRIES;
        self.figures.failed += u64::from(!is_alive);
        is_alive
    }
}

impl Worker {
    fn ask(&mut self, now: u64) -> io::Result<()> {
        let (request, _) = if self.is_releasing {
            self.session.request(method::REFRESH, release)?
        } else {
            self.session.request(method::ALLOCATE, allocate)?
        };
        self.request.clear();
        self.request.extend_from_slice(&request);
        self.asked = now;
        let _ = self.socket.send(&self.request);
        Ok(())
    }
}

/// Whether names can be made for many clients at once: a quota of one subject would end the run at once.
pub fn suits(login: &Login, parallel: usize) -> bool {
    matches!(login, Login::Secret(_)) || parallel <= 4
}
