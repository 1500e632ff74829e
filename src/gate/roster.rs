//! Who has which address at present: containers by address, life by life, and users by name.
//!
//! An address that goes to another container begins a new life, and the leases and rules of the old one are not for it.
//! While nobody can say who has an address, containers are nobody: rules that name them are for nobody, and what is
//! resolved meanwhile is a life of its own. A roster is a value; its successor is another. Must not know where the
//! news comes from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::facts::{Client, Container, Life, Scope, Tick, scope};

use super::ClientMatch;

/// Containers and users, as far as they are known.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    residents: HashMap<IpAddr, Resident>,
    users: HashMap<Arc<str>, u32>,
    /// Where containers have their addresses: whoever is unknown there may be any of them.
    subnets: Arc<[IpNet]>,
    /// Every new life takes the next number.
    lives: u32,
    /// Set while nobody can say who has which address.
    limbo: Option<Life>,
}

/// Who has an address.
#[derive(Debug, Clone)]
struct Resident {
    life: Life,
    /// When the one before was seen to be gone: what was said to this address earlier was said to that one.
    since: Tick,
    /// `None`: the container that had it is gone, and whoever has it now is unknown; or two claim it.
    container: Option<Arc<Container>>,
}

impl Roster {
    /// Returns the same roster with these users, by name.
    #[must_use]
    pub fn naming(self, users: impl IntoIterator<Item = (Arc<str>, u32)>) -> Self {
        Self { users: users.into_iter().collect(), ..self }
    }

    /// Returns the same roster with these address ranges as those of containers.
    #[must_use]
    pub fn within(self, subnets: Arc<[IpNet]>) -> Self {
        Self { subnets, ..self }
    }

    /// Returns the roster that follows when these are all the containers there are.
    ///
    /// A container keeps its life at an address as long as it is the same run of it. An address that two claim is
    /// nobody's.
    #[must_use]
    pub fn succeed<'a>(&self, containers: impl IntoIterator<Item = &'a Arc<Container>>, now: Tick) -> Self {
        let mut claimed: HashMap<IpAddr, Option<Arc<Container>>> = HashMap::new();
        for container in containers {
            for &address in &container.addresses {
                let claim = claimed.entry(address);
                claim.and_modify(|one| *one = None).or_insert_with(|| Some(Arc::clone(container)));
            }
        }
        let mut next = Self { residents: HashMap::new(), limbo: None, ..self.clone() };
        for (address, container) in claimed {
            let old = self.residents.get(&address);
            let (life, since) = match old {
                Some(old) if old.is(container.as_deref()) => (old.life, old.since),
                Some(old) if old.container.is_none() => (next.begin(), old.since),
                Some(_) => (next.begin(), now),
                None => (next.begin(), Tick::default()),
            };
            next.residents.insert(address, Resident { life, since, container });
        }
        for (&address, old) in &self.residents {
            if next.residents.contains_key(&address) {
                continue;
            }
            let (life, since) =
                if old.container.is_none() { (old.life, old.since) } else { (next.begin(), now) };
            next.residents.insert(address, Resident { life, since, container: None });
        }
        next.forget_some();
        next
    }

    /// Returns the roster that holds while nobody can say who has which address. Lives go on in its successor.
    #[must_use]
    pub fn suspend(&self) -> Self {
        if self.limbo.is_some() {
            return self.clone();
        }
        let mut next = self.clone();
        next.limbo = Some(next.begin());
        next
    }

    /// Whether it is known who has which address.
    pub fn is_sure(&self) -> bool {
        self.limbo.is_none()
    }

    /// Returns the client at an address, in canonical form.
    pub fn client_at(&self, address: IpAddr) -> Client {
        match (self.limbo, self.residents.get(&address)) {
            (Some(limbo), Some(_)) => Client::At(address, limbo),
            (None, Some(resident)) => Client::At(address, resident.life),
            (Some(_) | None, None) => Client::At(address, Life::default()),
        }
    }

    /// Returns the client that was told something at that instant; none when it was the one before.
    pub fn client_then(&self, address: IpAddr, at: Tick) -> Option<Client> {
        let same = self.residents.get(&address).is_none_or(|resident| at >= resident.since);
        same.then(|| self.client_at(address))
    }

    /// Whether this is still who has that address, or a user. What is not known for now does not end a life.
    pub fn is_current(&self, client: Client) -> bool {
        let Client::At(address, life) = client else { return client != Client::NOBODY };
        match self.residents.get(&address) {
            Some(resident) => resident.life == life || (self.limbo == Some(life)),
            None => life == Life::default(),
        }
    }

    /// Returns the container that a client is; none while that is not sure.
    pub fn container(&self, client: Client) -> Option<&Arc<Container>> {
        let Client::At(address, life) = client else { return None };
        let resident = self.residents.get(&address).filter(|resident| resident.life == life)?;
        // One that is being renamed may be any of those whom rules name.
        resident.container.as_ref().filter(|container| self.is_sure() && !container.name.is_empty())
    }

    /// Whether a container may be at this address that is not known yet.
    pub fn may_be_new(&self, address: IpAddr) -> bool {
        let unknown = self.container(self.client_at(address)).is_none();
        unknown
            && (self.subnets.iter().any(|subnet| subnet.contains(&address))
                || (self.limbo.is_some() && self.residents.contains_key(&address)))
    }

    /// Whether a client may be one of these containers without being known as such: then a rule that denies them
    /// something is for it too.
    ///
    /// One that is meant by its whole identifier is at its last known addresses, or uses one of the link alone; of
    /// another it is not known which it will be.
    pub(super) fn is_suspect(&self, client: Client, matches: &[ClientMatch]) -> bool {
        let Client::At(address, _) = client else { return false };
        if self.subnets.is_empty() && self.residents.is_empty() || self.container(client).is_some() {
            return false;
        }
        let resident = self.residents.get(&address);
        if scope(address) == Scope::LinkLocal {
            return true;
        }
        if matches.iter().filter(|one| one.is_of_containers()).all(ClientMatch::is_identifier) {
            let last = resident.and_then(|resident| resident.container.as_ref());
            return last.is_some_and(|last| matches.iter().any(|one| one.means(last)));
        }
        resident.is_some() || self.subnets.iter().any(|subnet| subnet.contains(&address))
    }

    /// Returns every client that a rule means besides those that its networks and user numbers mean, sorted.
    pub(super) fn members(&self, matches: &[ClientMatch]) -> Box<[Client]> {
        let mut members = Vec::new();
        let named = matches.iter().filter_map(|one| match one {
            ClientMatch::UserName(name) => self.users.get(name).map(|uid| Client::User(*uid)),
            ClientMatch::Net(_)
            | ClientMatch::Container(_)
            | ClientMatch::Label { .. }
            | ClientMatch::Service(_)
            | ClientMatch::User(_) => None,
        });
        members.extend(named);
        if self.is_sure() && matches.iter().any(ClientMatch::is_of_containers) {
            let residents = self.residents.iter();
            members.extend(residents.filter_map(|(&address, resident)| {
                let container = resident.container.as_ref()?;
                let meant = matches.iter().any(|one| one.means(container));
                meant.then_some(Client::At(address, resident.life))
            }));
        }
        members.sort_unstable();
        members.into()
    }

    fn begin(&mut self) -> Life {
        // Four billion containers later lives repeat, of which nothing is left by then.
        self.lives = self.lives.checked_add(1).unwrap_or(1);
        Life(self.lives)
    }

    /// Keeps the record of empty addresses within bounds; the longest empty go first.
    fn forget_some(&mut self) {
        let empty = |resident: &Resident| resident.container.is_none();
        let mut lives: Vec<Life> =
            self.residents.values().filter(|one| empty(one)).map(|one| one.life).collect();
        if lives.len() <= MOST_EMPTY {
            return;
        }
        lives.sort_unstable();
        let oldest = lives.get(lives.len() - MOST_EMPTY).copied().unwrap_or_default();
        self.residents.retain(|_, resident| !empty(resident) || resident.life >= oldest);
    }
}

impl Resident {
    fn is(&self, container: Option<&Container>) -> bool {
        match (&self.container, container) {
            (Some(old), Some(new)) => old.is_same_run(new),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl ClientMatch {
    /// Whether it means containers.
    pub(super) fn is_of_containers(&self) -> bool {
        match self {
            Self::Container(_) | Self::Label { .. } | Self::Service(_) => true,
            Self::Net(_) | Self::User(_) | Self::UserName(_) => false,
        }
    }

    /// Whether it means one container by its whole identifier.
    fn is_identifier(&self) -> bool {
        match self {
            Self::Container(text) => text.len() == ID,
            Self::Label { .. } | Self::Service(_) | Self::Net(_) | Self::User(_) | Self::UserName(_) => false,
        }
    }

    fn means(&self, container: &Container) -> bool {
        match self {
            // A whole identifier is one, whatever another container is called.
            Self::Container(text) if self.is_identifier() => *text == container.id,
            Self::Container(text) => {
                *text == container.name || (text.len() >= SHORT_ID && container.id.starts_with(&**text))
            }
            Self::Label { key, value } => container.label(key) == Some(value),
            Self::Service(service) => container.service() == Some(service),
            Self::Net(_) | Self::User(_) | Self::UserName(_) => false,
        }
    }
}

/// Addresses without a container that are remembered: those of a /16.
const MOST_EMPTY: usize = 65_536;
/// Digits of an identifier.
const ID: usize = 64;
/// Digits that `docker ps` shows.
const SHORT_ID: usize = 12;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn container(id: u64, run: &str, addresses: &[&str]) -> Arc<Container> {
        Arc::new(Container {
            id: format!("{id:064x}").into(),
            name: format!("c{id}").into(),
            image: "image".into(),
            labels: vec![
                ("tier".into(), "ci".into()),
                ("com.docker.compose.service".into(), format!("s{id}").into()),
            ],
            started_at: run.into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_begins_a_new_life_with_each_container_and_each_run() {
        let (a, b) = ("10.0.0.2", "fd00::2");
        let empty = Roster::default();
        let one = empty.succeed([&container(1, "x", &[a, b])], at(1));
        let first = one.client_at(ip(a));
        assert_ne!(first, empty.client_at(ip(a)), "it is known now");
        assert_eq!(
            one.succeed([&container(1, "x", &[a, b])], at(2)).client_at(ip(a)),
            first,
            "nothing changed"
        );
        let mut lives = vec![first];
        let mut roster = one;
        for next in [
            vec![container(1, "y", &[a])],
            vec![container(2, "y", &[a])],
            vec![],
            vec![container(2, "y", &[a])],
            vec![container(2, "y", &[a]), container(3, "y", &[a])],
            vec![container(3, "y", &[a])],
        ] {
            roster = roster.succeed(&next, at(3));
            let client = roster.client_at(ip(a));
            assert!(!lives.contains(&client), "{client:?} again");
            lives.push(client);
        }
        assert!(lives.iter().rev().skip(1).all(|old| !roster.is_current(*old)));
        assert!(roster.is_current(roster.client_at(ip(a))));
        let (once, twice) = (roster.succeed([], at(4)), roster.succeed([], at(4)).succeed([], at(5)));
        assert_eq!(once.client_at(ip(b)), twice.client_at(ip(b)));
    }

    fn at(second: u64) -> Tick {
        Tick::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn what_was_said_before_the_one_before_was_gone_was_said_to_that_one() {
        let address = ip("10.0.0.2");
        let one = Roster::default().succeed([&container(1, "x", &["10.0.0.2"])], at(10));
        assert_eq!(one.client_then(address, at(1)), Some(one.client_at(address)), "nobody was before");
        let empty = one.succeed([], at(20));
        assert_eq!(empty.client_then(address, at(19)), None);
        let two = empty.succeed([&container(2, "x", &["10.0.0.2"])], at(30));
        assert_eq!(two.client_then(address, at(19)), None);
        assert_eq!(two.client_then(address, at(25)), Some(two.client_at(address)), "its first question");
        let three = two.succeed([&container(3, "x", &["10.0.0.2"])], at(40));
        assert_eq!(three.client_then(address, at(39)), None);
        assert_eq!(three.client_then(ip("10.0.0.9"), at(1)), Some(Client::at(ip("10.0.0.9"))));
    }

    #[test]
    fn who_claims_one_address_twice_is_nobody() {
        let both = [container(1, "x", &["10.0.0.2"]), container(2, "x", &["10.0.0.2", "10.0.0.3"])];
        let roster = Roster::default().succeed(&both, at(1));
        assert_eq!(roster.container(roster.client_at(ip("10.0.0.2"))), None);
        assert_eq!(roster.container(roster.client_at(ip("10.0.0.3"))).unwrap().name, "c2".into());
    }

    #[test]
    fn without_news_containers_are_nobody_and_their_lives_go_on_afterwards() {
        let there = [container(1, "x", &["10.0.0.2"])];
        let roster = Roster::default().succeed(&there, at(1));
        let client = roster.client_at(ip("10.0.0.2"));
        let rule = [ClientMatch::Container("c1".into())];
        assert_eq!(*roster.members(&rule), [client]);
        let limbo = roster.suspend();
        let meanwhile = limbo.client_at(ip("10.0.0.2"));
        assert_ne!(meanwhile, client);
        assert!(limbo.members(&rule).is_empty() && limbo.container(client).is_none());
        assert!(limbo.is_current(client) && limbo.is_current(meanwhile), "nobody is cut off");
        assert_eq!(limbo.suspend().client_at(ip("10.0.0.2")), meanwhile, "one limbo, not many");
        let again = limbo.succeed(&there, at(2));
        assert_eq!(again.client_at(ip("10.0.0.2")), client);
        assert!(!again.is_current(meanwhile));
        let other = limbo.succeed(&[container(2, "x", &["10.0.0.2"])], at(2));
        assert!(!other.is_current(client) && other.client_at(ip("10.0.0.2")) != meanwhile);
    }

    #[test]
    fn who_may_be_a_container_is_suspect() {
        let subnets: Arc<[IpNet]> = ["10.0.0.0/24".parse().unwrap()].into();
        let there = [container(1, "x", &["10.0.0.2", "192.0.2.9"])];
        let roster = Roster::default().within(subnets).succeed(&there, at(1));
        let by_name = [ClientMatch::Container("c1".into())];
        let suspect = |roster: &Roster, text: &str| roster.is_suspect(roster.client_at(ip(text)), &by_name);
        assert!(roster.may_be_new(ip("10.0.0.3")) && !roster.may_be_new(ip("10.0.0.2")));
        assert!(!roster.may_be_new(ip("192.0.2.8")) && !roster.may_be_new(ip("fe80::2")));
        assert!(roster.suspend().may_be_new(ip("192.0.2.9")));
        for (text, expected) in [
            ("10.0.0.2", false),
            ("192.0.2.9", false),
            ("10.0.0.3", true),
            ("fe80::2", true),
            ("10.0.1.3", false),
        ] {
            assert_eq!(suspect(&roster, text), expected, "{text}");
        }
        assert!(!roster.is_suspect(Client::User(0), &by_name));
        let limbo = roster.suspend();
        assert!(suspect(&limbo, "10.0.0.2") && suspect(&limbo, "192.0.2.9"), "nobody is sure now");
        let gone = roster.succeed([], at(2));
        assert!(suspect(&gone, "192.0.2.9"), "somebody else may have it");
        assert!(!suspect(&Roster::default(), "fe80::2"), "nobody keeps a roster");
        // By its whole identifier it is nobody else, known or not.
        let both = [container(1, "x", &["10.0.0.2"]), container(2, "x", &["10.0.0.4"])];
        let roster = Roster::default().within(["10.0.0.0/24".parse().unwrap()].into()).succeed(&both, at(1));
        let whole = [ClientMatch::Container(format!("{:064x}", 1).into())];
        let suspect = |roster: &Roster, text: &str| roster.is_suspect(roster.client_at(ip(text)), &whole);
        let limbo = roster.suspend();
        for (text, sure, unsure) in [
            ("10.0.0.2", false, true),
            ("10.0.0.4", false, false),
            ("10.0.0.9", false, false),
            ("fe80::2", true, true),
        ] {
            assert_eq!((suspect(&roster, text), suspect(&limbo, text)), (sure, unsure), "{text}");
        }
    }

    #[test]
    fn containers_are_meant_by_name_identifier_label_and_service_and_users_by_name() {
        let roster = Roster::default().naming([("app".into(), 1000)]).succeed(
            &[container(0xabc, "x", &["10.0.0.2", "fd00::2"]), container(0xdef, "x", &["10.0.0.3"])],
            at(1),
        );
        let at = |text: &str| roster.client_at(ip(text));
        let whole: Arc<str> = format!("{:064x}", 0xabc).into();
        for (matches, expected) in [
            (ClientMatch::Container("c2748".into()), vec![at("10.0.0.2"), at("fd00::2")]),
            (ClientMatch::Container(whole), vec![at("10.0.0.2"), at("fd00::2")]),
            (
                ClientMatch::Container("000000000000".into()),
                vec![at("10.0.0.2"), at("10.0.0.3"), at("fd00::2")],
            ),
            (ClientMatch::Container("00000000000".into()), vec![]),
            (ClientMatch::Container("C2748".into()), vec![]),
            (ClientMatch::Label { key: "tier".into(), value: "c".into() }, vec![]),
            (ClientMatch::Service("s3567".into()), vec![at("10.0.0.3")]),
            (ClientMatch::UserName("app".into()), vec![Client::User(1000)]),
            (ClientMatch::UserName("root".into()), vec![]),
        ] {
            assert_eq!(*roster.members(std::slice::from_ref(&matches)), *expected, "{matches:?}");
        }
        let label = ClientMatch::Label { key: "tier".into(), value: "ci".into() };
        assert_eq!(roster.members(&[label, ClientMatch::Service("s3567".into())]).len(), 3);
    }

    #[test]
    fn empty_addresses_are_remembered_within_bounds() {
        let mut roster = Roster::default();
        let address = |number: u32| IpAddr::V4((0x0a00_0000 + number).into());
        for from in (0..70_000).step_by(10_000) {
            let many = Arc::new(Container {
                addresses: (from..from + 10_000).map(address).collect(),
                ..(*container(1, "x", &[])).clone()
            });
            roster = roster.succeed([&many], at(1));
        }
        roster = roster.succeed([], at(2));
        assert_eq!(roster.residents.len(), MOST_EMPTY);
        assert_ne!(roster.client_at(address(69_999)), Client::at(address(69_999)));
    }
}
