//! The client against a clock that the test moves and servers that it plays.

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
const LEASE_S: u32 = 3_600;

struct World {
    client: Client,
    now: u64,
    random: u32,
}

impl World {
    fn new() -> Self {
        Self { client: Client::new(MAC, Some("box".into()), None, 1_000), now: 1_000, random: 7 }
    }

    fn step(&mut self, event: Event<'_>) -> Vec<Action> {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.client.step(self.now, event, self.random)
    }

    /// Goes to when it wants to be told the time.
    fn wait(&mut self) -> Vec<Action> {
        assert!(self.client.until_ms() >= self.now, "it never waits for the past");
        self.now = self.client.until_ms();
        self.step(Event::Time)
    }

    fn answer(&mut self, kind: Kind, server: Ipv4Addr, address: Ipv4Addr) -> Vec<Action> {
        let mut answer = Message::new(kind, self.client.transaction, MAC);
        (answer.reply, answer.yours, answer.server) = (true, address, Some(server));
        (answer.mask, answer.routers) = (Some(Ipv4Addr::new(255, 255, 255, 0)), vec![server]);
        answer.lease_s = Some(LEASE_S);
        self.step(Event::Message(&answer))
    }

    fn bound(mut self) -> Self {
        self.wait();
        self.answer(Kind::Offer, SERVER, ADDRESS);
        self.now += 30;
        let used = self.answer(Kind::Ack, SERVER, ADDRESS);
        assert!(matches!(&used[..], [Action::Use(lease)] if lease.address == ADDRESS), "{used:?}");
        self
    }
}

fn sent(actions: &[Action]) -> (&Message, Option<Ipv4Addr>) {
    match actions {
        [Action::Send(message, to)] => (message, *to),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_offer_is_taken_and_the_address_is_used_from_the_servers_word_on() {
    let mut world = World::new();
    let first = world.wait();
    let (ask, to) = sent(&first);
    assert!(ask.kind == Kind::Discover && ask.broadcast && to.is_none() && ask.client.is_unspecified());
    let taken = world.answer(Kind::Offer, SERVER, ADDRESS);
    let (ask, to) = sent(&taken);
    assert_eq!((ask.kind, ask.wanted, ask.server, to), (Kind::Request, Some(ADDRESS), Some(SERVER), None));
    assert!(world.client.lease().is_none());
    // A server that was not asked has no say.
    assert!(world.answer(Kind::Ack, OTHER, ADDRESS).is_empty());
    let used = world.answer(Kind::Ack, SERVER, ADDRESS);
    let [Action::Use(lease)] = &used[..] else { panic!("{used:?}") };
    assert_eq!((lease.bits, lease.routes.clone()), (24, vec![((Ipv4Addr::UNSPECIFIED, 0), SERVER)]));
    assert_eq!(world.client.until_ms(), 1_000 + u64::from(LEASE_S) * 500);
}

#[test]
fn without_an_answer_it_asks_ever_more_seldom() {
    let mut world = World::new();
    let mut times = Vec::new();
    for _ in 0..8 {
        assert_eq!(sent(&world.wait()).0.kind, Kind::Discover);
        times.push(world.client.until_ms() - world.now);
    }
    for (time, whole) in times.iter().zip([4_000, 8_000, 16_000, 32_000, 64_000, 64_000, 64_000, 64_000]) {
        assert!((whole - 1_000..whole + 1_000).contains(time), "{times:?}");
    }
    world.answer(Kind::Offer, SERVER, ADDRESS);
    for _ in 0..3 {
        assert_eq!(sent(&world.wait()).0.kind, Kind::Request);
    }
    assert_eq!(sent(&world.wait()).0.kind, Kind::Discover, "an offer that is not kept is forgotten");
}

#[test]
fn at_half_time_its_own_server_is_asked_and_answers() {
    let mut world = World::new().bound();
    let (before, renewed) = (world.client.ends_ms().unwrap(), world.wait());
    let (ask, to) = sent(&renewed);
    assert_eq!((ask.kind, ask.client, to), (Kind::Request, ADDRESS, Some(SERVER)));
    assert!(!ask.broadcast && ask.wanted.is_none() && ask.server.is_none(), "RFC 2131, table 4");
    assert!(world.answer(Kind::Ack, OTHER, ADDRESS).is_empty());
    assert!(world.answer(Kind::Nak, OTHER, ADDRESS).is_empty());
    assert!(matches!(world.answer(Kind::Ack, SERVER, ADDRESS)[..], [Action::Use(_)]));
    assert!(world.client.ends_ms().unwrap() > before);
}

#[test]
fn when_its_server_is_silent_anybody_is_asked_and_at_the_end_the_address_is_gone() {
    let mut world = World::new().bound();
    let (start, ends) = (world.now, world.client.ends_ms().unwrap());
    let (mut own, mut anybody) = (0, 0);
    let gone = loop {
        let actions = world.wait();
        if let [Action::Send(message, to)] = &actions[..] {
            assert_eq!(message.client, ADDRESS);
            let late = world.now - 1_000 >= u64::from(LEASE_S) * 875;
            assert_eq!(to.is_none(), late, "at {}", world.now - start);
            *(if late { &mut anybody } else { &mut own }) += 1;
        } else {
            break actions;
        }
    };
    assert!(own >= 3 && anybody >= 2, "{own} {anybody}");
    assert_eq!(world.now, ends, "not a moment longer");
    let [Action::GiveUp(lease, _), Action::Send(ask, None)] = &gone[..] else { panic!("{gone:?}") };
    assert_eq!((lease.address, ask.kind, ask.wanted), (ADDRESS, Kind::Discover, Some(ADDRESS)));
}

#[test]
fn while_rebinding_another_server_may_keep_or_change_it() {
    let mut world = World::new().bound();
    while !matches!(world.client.state(), State::Rebinding(_)) {
        world.wait();
    }
    let another = Ipv4Addr::new(192, 0, 2, 51);
    let changed = world.answer(Kind::Ack, OTHER, another);
    let [Action::GiveUp(old, _), Action::Use(new)] = &changed[..] else { panic!("{changed:?}") };
    assert_eq!((old.address, new.address, new.server), (ADDRESS, another, OTHER));
}

#[test]
fn a_refusal_gives_the_address_up_at_once() {
    let mut world = World::new().bound();
    world.wait();
    assert!(matches!(&world.answer(Kind::Nak, SERVER, ADDRESS)[..], [Action::GiveUp(..)]));
    assert_eq!(world.client.until_ms(), world.now + AFTER_NAK_MS);
    let again = world.wait();
    assert_eq!((sent(&again).0.kind, sent(&again).0.wanted), (Kind::Discover, None));
}

#[test]
fn an_operator_and_a_link_that_returned_have_the_lease_asked_about() {
    let mut world = World::new().bound();
    let renewed = world.step(Event::Renew);
    assert_eq!(sent(&renewed).1, Some(SERVER));
    let returned = world.step(Event::Returned);
    let (ask, to) = sent(&returned);
    assert!(to.is_none() && ask.client == ADDRESS && ask.broadcast);
    // Nobody heard it: asked again soon and again, and not after half of what is left of the lease.
    for seconds in [4, 8, 16, 32, 64, 64] {
        let pause = world.client.until_ms() - world.now;
        assert!(pause.abs_diff(seconds * 1000) <= 1000, "{pause} ms and not {seconds} s");
        let again = world.wait();
        assert_eq!((sent(&again).0.client, sent(&again).1), (ADDRESS, None));
    }
    assert!(matches!(&world.answer(Kind::Ack, SERVER, ADDRESS)[..], [Action::Use(_)]));
    assert!(world.client.until_ms() - world.now > 100_000, "it is in no doubt any more");
}

#[test]
fn what_is_not_for_it_or_makes_no_sense_is_not_heard() {
    let mut world = World::new();
    world.wait();
    let mut good = Message::new(Kind::Offer, world.client.transaction, MAC);
    (good.reply, good.yours, good.server, good.lease_s) = (true, ADDRESS, Some(SERVER), Some(LEASE_S));
    let wrong: [fn(&mut Message); 8] = [
        |m| m.reply = false,
        |m| m.transaction ^= 1,
        |m| m.mac[5] = 2,
        |m| m.yours = Ipv4Addr::LOCALHOST,
        |m| m.server = None,
        |m| m.mask = Some(Ipv4Addr::new(255, 0, 255, 0)),
        |m| m.lease_s = Some(1),
        |m| m.kind = Kind::Ack,
    ];
    for (number, change) in wrong.iter().enumerate() {
        let mut message = good.clone();
        change(&mut message);
        assert!(world.step(Event::Message(&message)).is_empty(), "{number}");
    }
    assert!(!world.step(Event::Message(&good)).is_empty());
}

#[test]
fn a_lease_for_ever_is_never_asked_about() {
    let mut world = World::new();
    world.wait();
    world.answer(Kind::Offer, SERVER, ADDRESS);
    let mut word = Message::new(Kind::Ack, world.client.transaction, MAC);
    (word.reply, word.yours, word.server, word.lease_s) = (true, ADDRESS, Some(SERVER), Some(u32::MAX));
    assert!(matches!(world.step(Event::Message(&word))[..], [Action::Use(_)]));
    assert_eq!((world.client.until_ms(), world.client.ends_ms()), (u64::MAX, None));
}
