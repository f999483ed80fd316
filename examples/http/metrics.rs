//! `/metrics`. One reactor answers at once; many have to be asked, and meanwhile their connection waits.

use std::time::Duration;

use mainspring::metrics::{self, Snapshot};
use mainspring::{ConnId, Context};

use super::protocol::{Reply, Status};
use super::{Asked, Site};

/// Less than the 10 s that Prometheus waits unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(8);

impl Site {
    pub(super) fn answer_metrics(&mut self, cx: &mut Context<Self>, from: ConnId, asked: Asked) {
        let Some(pool) = cx.pool() else {
            let page = metrics::encode([Snapshot::of(cx)]);
            return self.reply_metrics(cx, from, asked, &page);
        };
        // Until the answer is there, no further request of this connection is read, so that replies stay in order. It is
        // owed, so that a client that has ended its input gets it all the same.
        cx.pause(from);
        cx.owe(from);
        let timer = cx.after_for(from, PATIENCE, 0);
        if let Some(late) = cx.session_mut(from) {
            *late = timer;
        }
        let home = cx.handle();
        metrics::gather(&pool, move |snapshots| {
            // On the thread of the last reactor to answer, which may not wait for ours.
            let page = metrics::encode(snapshots);
            let sent = home.try_run(move |site: &mut Site, cx| {
                let Some(timer) = cx.session_mut(from).and_then(Option::take) else { return };
                cx.cancel(timer);
                site.reply_metrics(cx, from, asked, &page);
                cx.paid(from);
                cx.resume(from);
            });
            if sent.is_err() {
                log::warn!("connection {from}: its metrics find no way back");
            }
        });
    }

    fn reply_metrics(&mut self, cx: &mut Context<Self>, to: ConnId, asked: Asked, page: &str) {
        let reply = Reply::new(Status::Ok, page.as_bytes());
        self.reply(cx, to, asked, Reply { content_type: metrics::CONTENT_TYPE, ..reply });
    }
}

/// A reactor did not answer in time. Without this answer there can be no later ones either.
pub(super) fn on_late(cx: &mut Context<Site>, conn: ConnId) {
    log::warn!("connection {conn}: no metrics within {PATIENCE:?}");
    cx.abort(conn);
}
