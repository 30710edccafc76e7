//! The chain of a server block: plugins as tower layers, in one order.

use std::future::{Future, ready};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use hickory_proto::rr::Name;
use rustls::ServerConfig;
use tower::util::BoxCloneSyncService;

use crate::corefile::{self, Block, Directive};
use crate::pages::Beside;
use crate::plugin;
use crate::plugin::kubernetes::Zones;
use crate::quick::Quick;
use crate::request::{Failure, Reply, Request};
use crate::server::Environment;

/// The rest of a chain.
pub(crate) type Next = BoxCloneSyncService<Request, Reply, Failure>;

/// One link of a chain: it answers, asks the next one, or changes what goes in or out.
pub(crate) trait Plugin: Send + Sync + 'static {
    fn handle(
        self: Arc<Self>,
        request: Request,
        next: Next,
    ) -> impl Future<Output = Result<Reply, Failure>> + Send + 'static;
}

/// A plugin with what follows it.
struct Link<P> {
    plugin: Arc<P>,
    next: Next,
}

impl<P> Clone for Link<P> {
    fn clone(&self) -> Self {
        Link { plugin: self.plugin.clone(), next: self.next.clone() }
    }
}

impl<P: Plugin> tower::Service<Request> for Link<P> {
    type Response = Reply;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Reply, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.plugin.clone().handle(request, self.next.clone()).boxed()
    }
}

/// A row of the table of plugins.
pub(crate) struct Row {
    /// The word in the Corefile.
    pub(crate) name: &'static str,
    /// Reads a directive and puts what it says into the block's setup.
    pub(crate) setup: fn(&Directive, &mut Setup) -> Result<(), corefile::Error>,
}

/// Every plugin, in the order in which questions pass them, which is CoreDNS's (its plugin.cfg);
/// the order in a Corefile does not matter.
pub(crate) const PLUGINS: &[Row] = &[
    Row { name: "reload", setup: plugin::reload::setup },
    Row { name: "bind", setup: plugin::bind::setup },
    Row { name: "trace", setup: plugin::trace::setup },
    Row { name: "ready", setup: plugin::ready::setup },
    Row { name: "health", setup: plugin::health::setup },
    Row { name: "prometheus", setup: plugin::prometheus::setup },
    Row { name: "ratelimit", setup: plugin::ratelimit::setup },
    Row { name: "errors", setup: plugin::errors::setup },
    Row { name: "log", setup: plugin::log::setup },
    Row { name: "any", setup: plugin::any::setup },
    Row { name: "loadbalance", setup: plugin::loadbalance::setup },
    Row { name: "rewrite", setup: plugin::rewrite::setup },
    Row { name: "autopath", setup: plugin::autopath::setup },
    Row { name: "acl", setup: plugin::acl::setup },
    Row { name: "cache", setup: plugin::cache::setup },
    Row { name: "header", setup: plugin::header::setup },
    Row { name: "tls", setup: plugin::tls::setup },
    Row { name: "minimal", setup: plugin::minimal::setup },
    Row { name: "template", setup: plugin::template::setup },
    Row { name: "transfer", setup: plugin::transfer::setup },
    Row { name: "hosts", setup: plugin::hosts::setup },
    Row { name: "kubernetes", setup: plugin::kubernetes::setup },
    Row { name: "loop", setup: plugin::r#loop::setup },
    Row { name: "forward", setup: plugin::forward::setup },
    Row { name: "whoami", setup: plugin::whoami::setup },
];

/// What the directives of a block add up to.
pub(crate) struct Setup<'a> {
    pub(crate) block: &'a Block,
    /// What comes from outside the Corefile.
    pub(crate) environment: &'a Environment,
    /// What may be answered without the chain.
    pub(crate) quick: Quick,
    /// The cluster's zones, once the block's `kubernetes` is set up.
    pub(crate) zones: Arc<OnceLock<Arc<Zones>>>,
    /// What runs as long as the chain does.
    pub(crate) background: Background,
    /// The certificates of the block; to no protocol in particular.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Pages and metrics.
    pub(crate) beside: Beside,
    layers: Vec<Box<dyn FnOnce(Next) -> Next>>,
}

impl<'a> Setup<'a> {
    /// Adds the next link of the chain.
    pub(crate) fn push(&mut self, plugin: impl Plugin) {
        self.push_with(|_| Arc::new(plugin));
    }

    /// Adds a link that gets to know what follows it.
    pub(crate) fn push_with<P: Plugin>(&mut self, plugin: impl FnOnce(&Next) -> Arc<P> + 'static) {
        self.layers.push(Box::new(move |next| Next::new(Link { plugin: plugin(&next), next })));
    }

    /// Sends questions for the names that `touches` picks (in lower case) through the chain: there
    /// is a plugin ahead of the ready answers that logs, refuses or changes them.
    pub(crate) fn slow(&mut self, touches: impl Fn(&Name) -> bool + Send + Sync + 'static) {
        self.quick.slow.push(Box::new(touches));
    }

    /// All directives of this plugin when `directive` is the first of them, and none when it is
    /// not: for plugins whose directives are one list of rules.
    pub(crate) fn together(&self, directive: &Directive) -> Vec<&'a Directive> {
        let all = self.block.directives.iter().filter(|other| other.name.text == directive.name.text);
        let all: Vec<_> = all.collect();
        if all.first().is_some_and(|first| *first == directive) { all } else { Vec::new() }
    }
}

/// A block's chain, and what it answers without.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) service: Next,
    pub(crate) quick: Arc<Quick>,
    /// See [`Setup::tls`].
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// What runs as long as a chain does.
pub(crate) type Background = Vec<BoxFuture<'static, ()>>;

/// Builds the chain of a block. Every directive is known: [`corefile::parse`] sees to that.
pub(crate) fn build(block: &Block, environment: &Environment) -> Result<(Chain, Background, Beside), corefile::Error> {
    let (quick, zones, background, tls, beside, layers) = Default::default();
    let mut setup = Setup { block, environment, quick, zones, background, tls, beside, layers };
    for row in PLUGINS {
        for directive in block.directives.iter().filter(|directive| directive.name.text == row.name) {
            (row.setup)(directive, &mut setup)?;
        }
    }
    let end = Next::new(tower::service_fn(|_| ready(Err(Failure::server("no plugin answers this")))));
    let service = setup.layers.into_iter().rev().fold(end, |next, layer| layer(next));
    let chain = Chain { service, quick: Arc::new(setup.quick), tls: setup.tls };
    Ok((chain, setup.background, setup.beside))
}
