//! What is answered to who asks for metrics, for health and for readiness.
//!
//! Must not change anything. Rendering costs what `status` costs, so one text is told for ten times
//! as long as it took to make: who asks all the time takes a tenth of the loop's time, not all of it.

use super::{Shell, view};
use crate::api::Status;
use crate::api::routes::{self, Nothing};
use crate::core::{ClientId, Ms};
use crate::http::Request;
use crate::metrics::{self, CONTENT_TYPE, Figures, ServerCounts};
use crate::shell::scrapes::PLAIN;
use std::collections::BTreeMap;

/// One text is told for so many times the time that it took.
const REUSE: u64 = 10;

/// What was rendered last.
#[derive(Default)]
pub struct Told {
    metrics: Page,
    ready: Page,
}

#[derive(Clone, Default)]
struct Page {
    status: u16,
    text: String,
    /// From then on it is rendered again.
    until: Ms,
}

impl Shell {
    /// Answers all questions that came over TCP.
    pub(super) fn answer_scrapes(&mut self) {
        for (number, request) in self.scrapes.take_asked() {
            let (status, content_type, text) = self.page(&request);
            self.scrapes.answer(&self.ctx, number, status, content_type, &text);
            self.beat_in_long_turn();
        }
    }

    /// `GET /v1/metrics` on the control socket.
    pub(super) fn on_metrics(&mut self, client: ClientId) {
        let text = self.metrics_page();
        self.control.answer_text(&mut self.ctx, client, CONTENT_TYPE, &text);
    }

    fn page(&mut self, request: &Request) -> (u16, &'static str, String) {
        match routes::find(routes::METRICS, &request.method, &request.path) {
            Ok(routes::Page::Metrics) => (200, CONTENT_TYPE, self.metrics_page()),
            Ok(routes::Page::Health) => (200, PLAIN, "ok\n".to_owned()),
            Ok(routes::Page::Ready) => {
                let page = self.ready_page();
                (page.status, PLAIN, page.text)
            }
            Err(Nothing::Method(wanted)) => {
                (405, PLAIN, format!("only {wanted} is answered here\n"))
            }
            Err(Nothing::Path) => {
                (404, PLAIN, "there are /metrics, /healthz and /readyz\n".to_owned())
            }
        }
    }

    fn metrics_page(&mut self) -> String {
        let began = self.ctx.now();
        if began >= self.told.metrics.until {
            let status = self.status_of_servers_in_force();
            let moved = self.outputs.moved(&self.ctx);
            let counts = self.node.servers.iter().map(|one| {
                let output_bytes = moved.get(&one.rec.name).copied();
                (one.rec.name.to_string(), ServerCounts { exits: *one.rec.exits, output_bytes })
            });
            let servers: BTreeMap<String, ServerCounts> = counts.collect();
            let takeover_times = &self.node.record.takeover_times;
            let figures = Figures { status: &status, takeover_times, servers: &servers };
            let text = metrics::render(&figures);
            self.told.metrics = Page { status: 200, text, until: self.reused_until(began) };
        }
        self.told.metrics.text.clone()
    }

    fn ready_page(&mut self) -> Page {
        let began = self.ctx.now();
        if began >= self.told.ready.until {
            let late = metrics::not_ready(&self.status_of_servers_in_force());
            let (status, text) = late.map_or((200, "ok\n".to_owned()), |text| (503, text));
            self.told.ready = Page { status, text, until: self.reused_until(began) };
        }
        self.told.ready.clone()
    }

    fn reused_until(&self, began: Ms) -> Ms {
        let now = self.ctx.now();
        now.after(now.since(began).saturating_mul(REUSE))
    }

    fn status_of_servers_in_force(&self) -> Status {
        let mut status = self.whole_status();
        self.without_removed(&mut status);
        status
    }

    /// All servers of the core, in its order.
    pub(super) fn whole_status(&self) -> Status {
        let keeper = self.keeper.keeper();
        let (since, version) = (self.serves_since, self.peers.version.as_deref());
        let mut status = view::status(&self.node, &self.ctx.config, keeper, since, version);
        status.applying = self.succession.is_applying();
        status
    }

    /// Takes out those that were taken out of the configuration.
    pub(super) fn without_removed(&self, status: &mut Status) {
        for at in self.node.removed().into_iter().rev() {
            if at.0 < status.servers.len() {
                status.servers.remove(at.0);
            }
        }
    }
}
