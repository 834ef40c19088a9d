//! The life of a service's process.

use crate::error::ServiceError;
use crate::inherited::Inherited;
use crate::notify::Notifier;
use crate::profile::Profile;
use crate::{Context, Health, Service, confine, log};
use octant_api::boot::BootConfig;
use octant_ids::Exit;
use octant_sys::inherit;
use octant_wire::{Trigger, shutdown};
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// How often a service that is not ready yet tries its health check again.
const NOT_READY_INTERVAL: Duration = Duration::from_millis(100);
/// The longest time between two health checks.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// How many threads do what can block, as reading files. What comes beyond waits, so work there must never wait for other
/// work there. More than the requests to the spawner that are under way at once (6), and than a disk makes use of.
const BLOCKING_THREADS: usize = 8;

/// Runs the service until it is told to stop. For the process that PID 1 starts as `octant svc NAME`.
pub fn run<S: Service>() -> ExitCode {
    // The first subscriber stays; a second call in one process has one already.
    let _ = tracing::subscriber::set_global_default(log::Lines);
    let variable = |name: &str| std::env::var(name).ok();
    match run_with::<S>(variable) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            tracing::error!("{error}");
            let exit = match error {
                ServiceError::Layer { .. } | ServiceError::GrantedPath { .. } => Exit::LayerMissing,
                ServiceError::Config { .. } | ServiceError::Boot(_) => Exit::Invalid,
                _ => Exit::Failed,
            };
            exit.into()
        }
    }
}

fn run_with<S: Service>(variable: impl Fn(&str) -> Option<String>) -> Result<(), ServiceError> {
    let mut inherited = Inherited::take(&variable, std::process::id())?;
    let needed = |name: &'static str, inherited: &mut Inherited| {
        inherited.remove(name).ok_or(ServiceError::NoDescriptor(name))
    };
    inherit::close_all_but(&inherited.numbers()).map_err(|source| ServiceError::Descriptor {
        number: -1,
        name: "others".to_owned(),
        source,
    })?;
    let boot = read_config(needed("config", &mut inherited)?)?;
    let config: S::Config = serde_json::from_value(boot.service.clone())
        .map_err(|source| ServiceError::Config { service: S::SPEC.name, source })?;
    let listener = StdListener::from(needed("socket", &mut inherited)?);
    listener.set_nonblocking(true).map_err(ServiceError::Listen)?;
    let path = variable("NOTIFY_SOCKET");
    // Connected before the confinement, which does not grant the socket's path.
    let notifier = Notifier::connect(path.as_deref().map(Path::new)).map_err(|error| {
        ServiceError::Environment { name: "NOTIFY_SOCKET", value: format!("{path:?}: {error}") }
    })?;
    let watchdog = variable("WATCHDOG_USEC").and_then(|text| text.parse().ok()).map(Duration::from_micros);

    let state_dir = boot.layout.state_of(S::SPEC.name);
    let profile = Profile::with_base(S::PROFILE)
        .map_err(|source| ServiceError::Profile { service: S::SPEC.name, source })?;
    let helper = S::helper().map_err(|source| ServiceError::Helper { service: S::SPEC.name, source })?;
    let confined = confine::confine(S::SPEC.name, &profile, &boot, &state_dir)?;
    tracing::info!(
        "confined: no_new_privs, Landlock ABI {}, {} system calls",
        confined.landlock_abi,
        confined.syscalls
    );

    let runtime = runtime().map_err(ServiceError::Runtime)?;
    let context = Context { spec: &S::SPEC, boot, inherited, notifier, helper };
    runtime.block_on(live::<S>(config, context, listener, watchdog))
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()
}

fn read_config(fd: OwnedFd) -> Result<BootConfig, ServiceError> {
    let mut file = File::from(fd);
    let mut bytes = Vec::new();
    // PID 1 wrote it through the same open file, so the offset may be at its end.
    file.rewind().map_err(ServiceError::ReadConfig)?;
    let limit = u64::try_from(BootConfig::MAX).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(ServiceError::ReadConfig)?;
    Ok(BootConfig::from_json(&bytes)?)
}

async fn live<S: Service>(
    config: S::Config,
    context: Context,
    listener: StdListener,
    watchdog: Option<Duration>,
) -> Result<(), ServiceError> {
    let listener = UnixListener::from_std(listener).map_err(ServiceError::Listen)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ServiceError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServiceError::Runtime)?;
    let notifier = context.notifier.clone();
    let service = S::open(config, context)
        .await
        .map_err(|source| ServiceError::Open { service: S::SPEC.name, source })?;
    let service = Arc::new(service);
    let (trigger, stop) = shutdown();
    let mut serving = Box::pin(Arc::clone(&service).serve(listener, stop));
    let reporting = report(&*service, &notifier, watchdog);
    tokio::select! {
        ended = &mut serving => return Err(match ended {
            Err(source) => ServiceError::Serve { service: S::SPEC.name, source },
            Ok(()) => ServiceError::Stopped { service: S::SPEC.name },
        }),
        () = reporting => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    finish::<S>(serving, &trigger, &notifier).await
}

async fn finish<S: Service>(
    serving: Pin<Box<impl Future<Output = Result<(), crate::ServeError>>>>,
    trigger: &Trigger,
    notifier: &Notifier,
) -> Result<(), ServiceError> {
    notifier.tell("STOPPING=1");
    tracing::info!("stopping");
    trigger.pull();
    // PID 1 kills what does not end within this time; ending a little earlier leaves a word in the log.
    let within = Duration::from_millis(S::SPEC.stop_within_ms.saturating_mul(9) / 10);
    match tokio::time::timeout(within, serving).await {
        Ok(done) => done.map_err(|source| ServiceError::Serve { service: S::SPEC.name, source }),
        Err(_) => {
            tracing::warn!("requests in flight did not finish within {} ms", within.as_millis());
            Ok(())
        }
    }
}

/// Checks health at intervals and tells PID 1, for ever.
///
/// Ready is a service that serves and has an answer about its health, also when the answer is bad: a damaged ledger
/// that can still be read must be there for the operator, and shows as unhealthy. Who gives no answer is not ready.
async fn report<S: Service>(service: &S, notifier: &Notifier, watchdog: Option<Duration>) {
    let interval = watchdog.map_or(HEALTH_INTERVAL, |watchdog| HEALTH_INTERVAL.min(watchdog / 3));
    let (mut ready, mut last) = (false, None);
    loop {
        let answer = tokio::time::timeout(interval, service.health()).await;
        let first = answer.is_ok() && !ready;
        ready |= first;
        let health = answer.unwrap_or_else(|_| {
            Health::Bad(format!("its health check gave no answer within {} ms", interval.as_millis()))
        });
        notifier.health(&health, first);
        if last.as_ref() != Some(&health) {
            match &health {
                Health::Ok => tracing::info!("healthy"),
                Health::Bad(reason) => tracing::error!("not healthy: {reason}"),
            }
            last = Some(health);
        }
        tokio::time::sleep(if ready { interval } else { NOT_READY_INTERVAL.min(interval) }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::task::{JoinSet, spawn_blocking};

    #[test]
    fn work_that_blocks_has_a_few_threads_and_waits_for_them() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let done = runtime().unwrap().block_on(async {
            let mut all = JoinSet::new();
            for _ in 0..100 {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                all.spawn(spawn_blocking(move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(2));
                    running.fetch_sub(1, Ordering::SeqCst);
                }));
            }
            all.join_all().await.into_iter().filter(Result::is_ok).count()
        });
        assert_eq!(done, 100);
        assert!((1..=8).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    }
}
