//! An agent's way to models: what it may ask is said to the router, and a socket is made in its network for the router to
//! serve. As with the gate, the router knows nothing after its start but what it is told then.

use super::Manager;
use super::budget::Drawer;
use super::network::{AGAIN, NoNetwork};
use octant_api::egress::{Door, Told};
use octant_api::error::Code;
use octant_api::router::{
    Above, AdmitRequest, DataClass, DismissRequest, ListenRequest, WatchRequest, WindowLimits,
};
use octant_ids::Aid;
use octant_manifest::{DataClass as Granted, Models, PatternSet};
use octant_sys::clock;
use octant_wire::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::Arc;

fn router_failed(error: impl std::fmt::Display) -> NoNetwork {
    (Code::Unavailable, format!("the router: {error}"))
}

fn said(class: Granted) -> DataClass {
    match class {
        Granted::Local => DataClass::Local,
        Granted::NoRetention => DataClass::NoRetention,
        Granted::Any => DataClass::Any,
    }
}

/// What has an end.
fn ended(most: u64) -> Option<u64> {
    (most != u64::MAX).then_some(most)
}

fn windows(models: &Models) -> WindowLimits {
    WindowLimits {
        tokens_per_minute: ended(models.tokens_per_minute),
        microusd_per_minute: ended(models.microusd_per_minute),
        tokens_per_day: ended(models.tokens_per_day),
        microusd_per_day: ended(models.microusd_per_day),
        // In all there are budgets, which are drawn from.
        ..WindowLimits::default()
    }
}

impl Manager {
    /// Whether an agent may ask models, running or about to, or might.
    pub(super) fn has_models(&self, aid: Aid) -> bool {
        self.inner().agents.get(&aid).is_some_and(|agent| agent.saved.models)
    }

    /// What the router is told of an agent; none where it may ask nothing or its rights are not known any more.
    fn models_of(&self, aid: Aid) -> Option<AdmitRequest> {
        let inner = self.inner();
        let agent = inner.agents.get(&aid)?;
        let grants = agent.rights.as_ref()?.grants();
        let Models {
            allowed,
            tokens_per_minute,
            microusd_per_minute,
            tokens_per_day,
            microusd_per_day,
            max_price_microusd,
            data,
            keep_prompts,
            cache,
            extras,
        } = grants.models();
        // Those of an agent above whose rights are not known any more bound nothing here: it has ended.
        let above = agent.saved.ancestors.iter().filter_map(|above| {
            let models = inner.agents.get(above)?.rights.as_ref()?.grants().models();
            Some(Above { aid: *above, limits: windows(models) })
        });
        let above = above.collect();
        let models = match allowed {
            PatternSet::All => vec!["*".to_owned()],
            PatternSet::Only(models) => models.iter().map(ToString::to_string).collect(),
        };
        grants.has_models().then_some(AdmitRequest {
            aid,
            // The machine's own clock, so that a later word has a greater number over a restart too.
            generation: clock::boottime_ns(),
            models,
            tokens_per_minute: *tokens_per_minute,
            microusd_per_minute: *microusd_per_minute,
            tokens_per_day: ended(*tokens_per_day),
            microusd_per_day: ended(*microusd_per_day),
            above,
            max_price_microusd: *max_price_microusd,
            data: said(*data),
            keep_prompts: *keep_prompts,
            cache: *cache,
            extras: *extras,
            manifest: Some(agent.saved.info.manifest_digest),
        })
    }

    /// Opens the way to models of a workstation that stands.
    pub(super) async fn open_models(&self, aid: Aid, slot: u32) -> Result<(), NoNetwork> {
        let Some(request) = self.models_of(aid) else { return Ok(()) };
        let admitted = self.router.call(&request).await.map_err(router_failed)?;
        if admitted.listens {
            return Ok(());
        }
        let hand_over = async |mut sockets: Vec<OwnedFd>| {
            // The other socket was made with its workstation, once: the router gets a copy.
            let models =
                self.inner().agents.get(&aid).and_then(|agent| agent.models.as_ref()?.try_clone().ok());
            sockets.extend(models);
            let listens = self.router.call_with(&ListenRequest { aid }, &sockets).await;
            listens.map(drop).map_err(router_failed)
        };
        self.with_sockets(aid, slot, &[Door::Models], hand_over).await
    }

    /// Has the router cut everything of an agent. It takes authority away, so it waits for nothing.
    pub(super) fn close_models(self: &Arc<Self>, aid: Aid) {
        if self.has_models(aid) {
            let manager = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(why) = manager.models_closed(aid).await {
                    tracing::warn!("{aid}: {why}; it is tried again when its workstation is removed");
                }
            });
        }
    }

    /// The same, and waits until nothing of it is left at the router.
    pub(super) async fn models_closed(&self, aid: Aid) -> Result<(), String> {
        let dismissed = self.router.call(&DismissRequest { aid }).await;
        let dismissed = dismissed.map_err(|error| format!("the router: {error}"))?;
        self.settle_drawn(Drawer::Router, aid, dismissed.settled.as_ref());
        Ok(())
    }

    /// Tells the router about every agent that lives, each time it comes back.
    pub(super) async fn watch_router(self: &Arc<Self>, stop: &Shutdown) {
        tokio::select! {
            () = stop.requested() => {}
            () = self.follow_router() => {}
        }
    }

    async fn follow_router(self: &Arc<Self>) {
        loop {
            if let Ok(mut stream) = self.router.stream(&WatchRequest {}).await {
                let mut run = String::new();
                while let Ok(Some(told)) = stream.next().await {
                    match told {
                        Told::Began(instance) => {
                            self.tell_router(&instance.agents).await;
                            run = instance.instance;
                        }
                        Told::Draw(wish) => {
                            let (manager, run) = (Arc::clone(self), run.clone());
                            tokio::spawn(async move { manager.fund(Drawer::Router, run, wish).await });
                        }
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Who has ended goes, and who lives is told anew.
    async fn tell_router(&self, known: &[Aid]) {
        let (ended, live) = self.ended_and_live(known);
        for aid in ended {
            if let Err(why) = self.models_closed(aid).await {
                tracing::warn!("{aid}: {why}");
            }
        }
        for (aid, slot) in live {
            if !self.has_models(aid) {
                continue;
            }
            if let Err((_, why)) = self.open_models(aid, slot).await {
                tracing::error!("{aid}: it asks no model until the router is back: {why}");
            }
        }
    }
}
