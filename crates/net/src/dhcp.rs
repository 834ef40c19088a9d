//! A DHCP client (RFC 2131), pure: what time it is and what chance says is given to it, what it wants done it answers.
//!
//! | state | it waits for | when the time is up |
//! |---|---|---|
//! | selecting | an offer | asks everybody again, after 4, 8, 16, 32, 64 seconds and then each 64 |
//! | requesting | the word on the offer that it took | asks again, and after four times begins anew |
//! | bound | half of the lease (T1) | renewing: asks its server |
//! | renewing | its server's word | asks again at half of what is left until T2 (7/8): rebinding, asks everybody |
//! | rebinding | anybody's word | asks again; at the lease's end the address is given up, and it begins anew |
//!
//! A refusal (NAK) gives the address up at once.

mod message;

pub use message::{Kind, MESSAGE_MAX, Message};

use std::net::Ipv4Addr;

/// The ports of servers and clients.
pub const SERVER_PORT: u16 = 67;
/// See [`SERVER_PORT`].
pub const CLIENT_PORT: u16 = 68;
/// The first wait for an answer, and the longest.
const WAIT_FIRST_MS: u64 = 4_000;
const WAIT_LAST_MS: u64 = 64_000;
/// How often an offer that was taken is asked for.
const REQUESTS: u32 = 4;
/// The shortest time between two questions about a lease (RFC 2131, 4.4.5).
const AGAIN_LEAST_MS: u64 = 60_000;
/// How long nothing is asked after a refusal, so that two that disagree do not talk without end.
const AFTER_NAK_MS: u64 = 10_000;
/// The shortest lease that is taken: a server that says less has a mistake in it, and would be asked without end.
const LEASE_LEAST_S: u32 = 60;
/// The longest; beyond it, it is for ever.
const FOR_EVER_S: u32 = u32::MAX;

/// What a server lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// How many leading bits its network has.
    pub bits: u8,
    /// Who lent it.
    pub server: Ipv4Addr,
    /// Routes: to where, through whom.
    pub routes: Vec<((Ipv4Addr, u8), Ipv4Addr)>,
    /// Name servers.
    pub name_servers: Vec<Ipv4Addr>,
    /// Time servers.
    pub time_servers: Vec<Ipv4Addr>,
    /// Below which name names without a dot are.
    pub domain: Option<String>,
    /// The longest packet.
    pub mtu: Option<u16>,
    /// For how many seconds; all ones for ever.
    pub seconds: u32,
}

/// Where the client is; see the table of this module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It asks everybody for an offer.
    Selecting,
    /// It has taken one.
    Requesting(Message),
    /// It has an address.
    Bound(Lease),
    /// It asks its server whether it may keep it.
    Renewing(Lease),
    /// It asks everybody whether it may.
    Rebinding(Lease),
}

/// What it wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this, to everybody or to one server.
    Send(Message, Option<Ipv4Addr>),
    /// Use what was lent, in place of what was before.
    Use(Lease),
    /// Give up what was lent, and why.
    GiveUp(Lease, String),
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message has come.
    Message(&'a Message),
    /// It may be time: see [`Client::until_ms`].
    Time,
    /// An operator wants the lease asked about now.
    Renew,
    /// The link was lost and is back: it may be another network.
    Returned,
}

/// A client for one link.
#[derive(Debug, Clone)]
pub struct Client {
    mac: [u8; 6],
    hostname: Option<String>,
    state: State,
    transaction: u32,
    /// When the client began to ask, and when the lease was asked for that it has.
    since_ms: u64,
    asked_ms: u64,
    /// When something is to be done, and how often the same was done.
    until_ms: u64,
    tries: u32,
    /// Whether the link was away since somebody last said that the address may be used.
    doubtful: bool,
    /// The address that it had, to ask for it again.
    last: Option<Ipv4Addr>,
}

impl Client {
    /// One that has no address; its first question goes out at its first [`Event::Time`]. `last`: the address that it
    /// had before.
    #[must_use]
    pub fn new(mac: [u8; 6], hostname: Option<String>, last: Option<Ipv4Addr>, now_ms: u64) -> Self {
        let (since_ms, asked_ms, until_ms) = (now_ms, now_ms, now_ms);
        let (state, transaction, tries) = (State::Selecting, 0, 0);
        Self { mac, hostname, state, transaction, since_ms, asked_ms, until_ms, tries, doubtful: false, last }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it has.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound(lease) | State::Renewing(lease) | State::Rebinding(lease) => Some(lease),
            State::Selecting | State::Requesting(_) => None,
        }
    }

    /// When it has to be told the time.
    #[must_use]
    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// When the lease ends.
    #[must_use]
    pub fn ends_ms(&self) -> Option<u64> {
        let lease = self.lease().filter(|lease| lease.seconds != FOR_EVER_S)?;
        Some(self.asked_ms.saturating_add(u64::from(lease.seconds) * 1000))
    }

    /// Goes on. `random` is used for transaction numbers and to spread what many clients ask at once.
    pub fn step(&mut self, now_ms: u64, event: Event<'_>, random: u32) -> Vec<Action> {
        match event {
            Event::Message(message) => self.hear(now_ms, message),
            Event::Time if now_ms < self.until_ms => Vec::new(),
            Event::Time => self.time(now_ms, random),
            Event::Renew => match self.state.clone() {
                State::Bound(lease) | State::Renewing(lease) => {
                    self.state = State::Renewing(lease);
                    self.ask_about_lease(now_ms, random)
                }
                State::Selecting | State::Requesting(_) | State::Rebinding(_) => self.time(now_ms, random),
            },
            Event::Returned => {
                // Anybody may answer, and a server of another network says no.
                if let Some(lease) = self.lease().cloned() {
                    self.state = State::Rebinding(lease);
                    (self.doubtful, self.tries) = (true, 0);
                    return self.ask_about_lease(now_ms, random);
                }
                self.begin(now_ms);
                self.time(now_ms, random)
            }
        }
    }

    fn begin(&mut self, now_ms: u64) {
        self.state = State::Selecting;
        (self.since_ms, self.until_ms, self.tries, self.doubtful) = (now_ms, now_ms, 0, false);
    }

    fn time(&mut self, now_ms: u64, random: u32) -> Vec<Action> {
        if let (Some(ends), Some(lease)) = (self.ends_ms(), self.lease())
            && now_ms >= ends
        {
            let lost = lease.clone();
            self.begin(now_ms);
            let mut actions = vec![Action::GiveUp(lost, "nobody renewed it until its end".into())];
            actions.extend(self.time(now_ms, random));
            return actions;
        }
        match self.state.clone() {
            State::Selecting => {
                self.transaction = random;
                self.wait(now_ms, random);
                let mut ask = self.message(Kind::Discover, now_ms);
                ask.wanted = self.last;
                vec![Action::Send(ask, None)]
            }
            State::Requesting(_) if self.tries >= REQUESTS => {
                self.begin(now_ms);
                self.time(now_ms, random)
            }
            State::Requesting(offer) => {
                self.wait(now_ms, random);
                let mut ask = self.message(Kind::Request, now_ms);
                (ask.wanted, ask.server) = (Some(offer.yours), offer.server);
                vec![Action::Send(ask, None)]
            }
            State::Bound(lease) => {
                self.state = State::Renewing(lease);
                self.ask_about_lease(now_ms, random)
            }
            State::Renewing(lease) => {
                if now_ms >= self.rebind_ms(&lease) {
                    self.state = State::Rebinding(lease);
                }
                self.ask_about_lease(now_ms, random)
            }
            State::Rebinding(_) => self.ask_about_lease(now_ms, random),
        }
    }

    fn rebind_ms(&self, lease: &Lease) -> u64 {
        self.asked_ms.saturating_add(u64::from(lease.seconds) * 875)
    }

    fn ask_about_lease(&mut self, now_ms: u64, random: u32) -> Vec<Action> {
        let Some(lease) = self.lease().cloned() else { return Vec::new() };
        self.transaction = random;
        self.since_ms = now_ms;
        let renewing = matches!(self.state, State::Renewing(_));
        let limit = if renewing { self.rebind_ms(&lease) } else { self.ends_ms().unwrap_or(u64::MAX) };
        if self.doubtful {
            // It may be another network, and the first question on a link that is just up is easily lost.
            self.wait(now_ms, random);
        } else {
            let half = limit.saturating_sub(now_ms) / 2;
            self.until_ms = now_ms.saturating_add(half.max(AGAIN_LEAST_MS));
        }
        self.until_ms = self.until_ms.min(limit.max(now_ms + 1));
        let mut ask = self.message(Kind::Request, now_ms);
        ask.client = lease.address;
        vec![Action::Send(ask, renewing.then_some(lease.server))]
    }

    /// Twice as long each time, and a second more or less (RFC 2131, 4.1).
    fn wait(&mut self, now_ms: u64, random: u32) {
        let whole = (WAIT_FIRST_MS << self.tries.min(8)).min(WAIT_LAST_MS);
        self.until_ms = now_ms + whole - 1_000 + u64::from(random % 2_000);
        self.tries += 1;
    }

    fn message(&self, kind: Kind, now_ms: u64) -> Message {
        let mut message = Message::new(kind, self.transaction, self.mac);
        message.seconds = u16::try_from(now_ms.saturating_sub(self.since_ms) / 1000).unwrap_or(u16::MAX);
        message.broadcast = !matches!(self.state, State::Renewing(_));
        message.hostname.clone_from(&self.hostname);
        message
    }

    fn hear(&mut self, now_ms: u64, message: &Message) -> Vec<Action> {
        if !message.reply || message.transaction != self.transaction || message.mac != self.mac {
            return Vec::new();
        }
        match (self.state.clone(), message.kind) {
            (State::Selecting, Kind::Offer) if lease_of(message).is_some() => {
                self.state = State::Requesting(message.clone());
                self.tries = 0;
                (self.asked_ms, self.until_ms) = (now_ms, now_ms);
                self.time(now_ms, self.transaction)
            }
            (State::Requesting(offer), Kind::Ack) if offer.server == message.server => {
                self.bind(now_ms, message)
            }
            (State::Requesting(offer), Kind::Nak) if offer.server == message.server => {
                self.last = None;
                self.begin(now_ms);
                self.until_ms = now_ms + AFTER_NAK_MS;
                Vec::new()
            }
            // While renewing, only the server that lent it has a word in it.
            (State::Renewing(lease), Kind::Ack | Kind::Nak) if message.server != Some(lease.server) => {
                Vec::new()
            }
            (State::Renewing(_) | State::Rebinding(_), Kind::Ack) => self.bind(now_ms, message),
            (State::Renewing(lease) | State::Rebinding(lease), Kind::Nak) => {
                self.last = None;
                self.begin(now_ms);
                self.until_ms = now_ms + AFTER_NAK_MS;
                let why = message.text.clone().unwrap_or_else(|| "it gave no reason".into());
                vec![Action::GiveUp(lease, format!("the server refused it: {why}"))]
            }
            _ => Vec::new(),
        }
    }

    fn bind(&mut self, now_ms: u64, message: &Message) -> Vec<Action> {
        let Some(lease) = lease_of(message) else { return Vec::new() };
        let before = self.lease().filter(|before| before.address != lease.address).cloned();
        // The lease counts from when it was asked for.
        if matches!(self.state, State::Renewing(_) | State::Rebinding(_)) {
            self.asked_ms = self.since_ms;
        }
        let half = u64::from(lease.seconds) * 500;
        let renew =
            message.renew_s.map(|seconds| u64::from(seconds) * 1000).filter(|renew| *renew < half * 2);
        let renew = if lease.seconds == FOR_EVER_S { u64::MAX } else { renew.unwrap_or(half).max(half / 2) };
        self.until_ms = self.asked_ms.saturating_add(renew).max(now_ms + 1);
        (self.last, self.tries, self.doubtful) = (Some(lease.address), 0, false);
        self.state = State::Bound(lease.clone());
        let gone = before.map(|before| Action::GiveUp(before, "the server lent another one".into()));
        gone.into_iter().chain([Action::Use(lease)]).collect()
    }
}

/// What an offer or a word of a server lends; none for what cannot be used.
fn lease_of(message: &Message) -> Option<Lease> {
    let address = Some(message.yours).filter(|address| message::is_host(*address))?;
    let mask = u32::from(message.mask.unwrap_or(Ipv4Addr::new(255, 255, 255, 0)));
    let bits = mask.leading_ones();
    if mask.checked_shl(bits).unwrap_or(0) != 0 || bits == 0 {
        return None;
    }
    let mut routes = message.routes.clone();
    if routes.is_empty() {
        let default = message.routers.first().map(|router| ((Ipv4Addr::UNSPECIFIED, 0), *router));
        routes.extend(default);
    }
    Some(Lease {
        address,
        bits: u8::try_from(bits).ok()?,
        server: message.server.filter(|server| message::is_host(*server))?,
        routes,
        name_servers: message.name_servers.clone(),
        time_servers: message.time_servers.clone(),
        domain: message.domain.clone(),
        mtu: message.mtu.filter(|mtu| (576..=9000).contains(mtu)),
        seconds: message.lease_s.filter(|seconds| *seconds >= LEASE_LEAST_S)?,
    })
}

#[cfg(test)]
mod tests;
