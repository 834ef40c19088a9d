//! The glue between the network and its process.

use crate::config::NetworkConfig;
use crate::manager::{Command, Manager, Places, Sources, Troubles};
use crate::time::{Course, Machine, Time, Word};
use octant_api::error::{ApiError, Code};
use octant_api::network::{
    Handler, NetworkStatus, RenewRequest, Renewed, Server, StatusRequest, StepRequest, Stepped, TimeStatus,
};
use octant_api::unit::{Criticality, Restart, Spec};
use octant_service::{Context, Health, Notifier, Records, ServeError, Service, Shutdown, StartError};
use octant_wire::{Call, Identity, Limits};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

/// How many questions of operators and services can wait.
const COMMANDS_MAX: usize = 16;

/// The network as PID 1 runs it.
#[derive(Debug)]
pub struct NetworkService {
    records: Arc<Records>,
    identity: Identity,
    notifier: Notifier,
    troubles: Troubles,
    methods: Arc<Methods>,
    work: Mutex<Option<Work>>,
}

/// The two tasks, and what commands them.
#[derive(Debug)]
struct Work {
    links: (Manager, mpsc::Receiver<Command>),
    time: (Time, mpsc::Receiver<Word>),
}

impl Service for NetworkService {
    const SPEC: Spec = Spec {
        name: "network",
        about: "the machine's network",
        needs: &["ledger"],
        restart: Restart::Always,
        criticality: Criticality::Degrades,
        ready_within_ms: 10_000,
        stop_within_ms: 3_000,
        watchdog_ms: 30_000,
        // Whoever may not call is refused by method.
        socket_mode: 0o666,
        // The kernel's network, a port below 1024 (DHCP's), the clock.
        capabilities: &["NET_ADMIN", "NET_BIND_SERVICE", "SYS_TIME"],
        root: false,
        optional: true,
        argv: &["svc", "network"],
    };
    const PROFILE: &'static str = include_str!("../profile.json");
    type Config = NetworkConfig;

    async fn open(config: NetworkConfig, context: Context) -> Result<Self, StartError> {
        config
            .check()
            .map_err(|error| StartError::new("read the configuration", &error.field, &error.why))?;
        let records = Arc::new(Records::new(context.client("ledger")?));
        let places = Places {
            resolv_conf: context.boot.layout.run.join("network/resolv.conf"),
            last: context.state_dir().join("addresses"),
        };
        let troubles = Troubles::default();
        let (sources, time_config) = (Arc::new(Sources::default()), config.time.clone());
        let manager =
            Manager::new(config, Arc::clone(&records), places, Arc::clone(&troubles), Arc::clone(&sources));
        let manager =
            manager.map_err(|error| StartError::new("ask the kernel for its links", "netlink", error))?;
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (words, heard) = mpsc::channel(COMMANDS_MAX);
        let status = Arc::new(Mutex::new(TimeStatus::default()));
        let time = Time {
            config: time_config,
            sources,
            records: Arc::clone(&records),
            ledger: context.client("ledger")?,
            status: Arc::clone(&status),
            hands: Box::new(Machine),
            state: Course::default(),
        };
        Ok(Self {
            records,
            identity: context.identity(),
            notifier: context.notifier,
            troubles,
            methods: Arc::new(Methods { commands, words, time: status }),
            work: Mutex::new(Some(Work { links: (manager, receiver), time: (time, heard) })),
        })
    }

    async fn serve(self: Arc<Self>, listener: UnixListener, stop: Shutdown) -> Result<(), ServeError> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let managing = async {
            match work {
                Some(Work { links: (manager, commands), time: (time, words) }) => {
                    tokio::select! {
                        ended = manager.run(commands) => ended,
                        () = time.run(words) => Ok(()),
                    }
                }
                None => Ok(()),
            }
        };
        let (records, until) = (Arc::clone(&self.records), stop.clone());
        let recording = tokio::spawn(async move { records.run(&until, || ()).await });
        let server = Server(Arc::clone(&self.methods));
        let serving =
            octant_wire::serve(listener, server, self.identity.clone(), Limits::default(), stop.clone());
        tokio::select! {
            served = serving => served.map_err(|error| ServeError::new("accept connections", error))?,
            ended = managing => return Err(match ended {
                Err(error) => ServeError::new("manage links", error),
                Ok(()) => ServeError::new("manage links", "their task has ended"),
            }),
        }
        recording.await.map_err(|error| ServeError::new("hand over records", error))?;
        self.records.hand_over().await;
        Ok(())
    }

    async fn health(&self) -> Health {
        // It asks the kernel, so that a task that hangs is seen.
        let status = match self.methods.ask(Command::Status).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Health::Bad(format!("the kernel's links: {error}")),
            Err(error) => return Health::Bad(error.to_string()),
        };
        let connected = status.links.iter().filter(|link| link.carrier);
        let connected = connected.map(|link| match link.addresses.first() {
            Some(address) => format!("{} {address}", link.name),
            None => link.name.clone(),
        });
        let connected: Vec<String> = connected.collect();
        self.notifier.status(&if connected.is_empty() {
            "not connected".to_owned()
        } else {
            connected.join(", ")
        });
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone();
        troubles.extend(self.methods.time().trouble);
        if !troubles.is_empty() {
            return Health::Bad(troubles.join("; "));
        }
        match self.records.healthy().await {
            Ok(()) => Health::Ok,
            Err(why) => Health::Bad(why),
        }
    }
}

/// The service's side of its socket.
#[derive(Debug)]
struct Methods {
    commands: mpsc::Sender<Command>,
    words: mpsc::Sender<Word>,
    time: Arc<Mutex<TimeStatus>>,
}

impl Methods {
    fn time(&self) -> TimeStatus {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        let gone = || {
            let next = "see `octant status`; PID 1 starts the service again";
            ApiError::new(Code::Unavailable, "ask about the network", "its task", "it has ended", next)
        };
        self.commands.send(command(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

impl Handler<Call> for Methods {
    async fn status(&self, _: StatusRequest, _: Call) -> Result<NetworkStatus, ApiError> {
        let status = self.ask(Command::Status).await?.map_err(|error| {
            ApiError::new(Code::Internal, "ask the kernel for its network", "netlink", error, "try again")
        })?;
        Ok(NetworkStatus { time: self.time(), ..status })
    }

    async fn step(&self, _: StepRequest, _: Call) -> Result<Stepped, ApiError> {
        let failed = |why: String| {
            let next = "see `octant network status` for what each server says";
            ApiError::new(Code::Failed, "set the clock", "time servers", why, next)
        };
        let (answer, answered) = oneshot::channel();
        let gone = |_| failed("their task has ended".into());
        self.words.send(answer).await.map_err(|_| failed("their task has ended".into()))?;
        Ok(Stepped { by_ms: answered.await.map_err(gone)?.map_err(failed)? })
    }

    async fn renew(&self, request: RenewRequest, _: Call) -> Result<Renewed, ApiError> {
        let RenewRequest { link } = request;
        let named = link.clone();
        let links = self.ask(|answer| Command::Renew(link, answer)).await?;
        if links.is_empty() {
            let (place, next) = (named.unwrap_or_else(|| "every link".into()), "see `octant network status`");
            let why = "it is not connected, or asks for no address";
            return Err(ApiError::new(Code::NotFound, "renew what was lent", place, why, next));
        }
        Ok(Renewed { links })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_valid_and_gives_a_reason_for_each_line() {
        octant_service::Profile::parse(NetworkService::PROFILE).unwrap();
    }
}
