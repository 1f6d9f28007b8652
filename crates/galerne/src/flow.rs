//! What flow control needs of the running program: its clock ticks, and its switches are told
//! (FLOW-36, FLOW-41).

use std::sync::Arc;
use std::time::Duration;

use galerne_core::flow::desk::Switched;
use galerne_core::flow::state::Cause;
use galerne_core::ports::{EventSink, Module};
use galerne_outbound::pace::Pace;

/// How often changes are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// After so many looks all rules are evaluated.
const LOOKS_PER_TICK: u32 = 20;

/// Keeps flow control going, until the program ends.
pub async fn keep(pace: Arc<Pace>, events: Arc<dyn EventSink>) {
    let mut looks = tokio::time::interval(LOOK);
    let mut number = 0u32;
    loop {
        looks.tick().await;
        number = number.wrapping_add(1);
        if number % LOOKS_PER_TICK == 0 {
            pace.tick();
        }
        let (_, switches) = pace.take_changed();
        for switch in switches {
            let text = shown(&switch);
            tracing::info!("{text}");
            events.note(Module::RfMta, &text);
        }
    }
}

/// `flow @gmail ipflow 192.0.2.10: warmup to low, 10000 delivered in the period of the up rule`.
fn shown(switch: &Switched) -> String {
    let cause = match &switch.change.cause {
        Cause::Up(count) => format!("{count} delivered in the period of the up rule"),
        Cause::Down(count) => format!("only {count} delivered in the period of the down rule"),
        Cause::Reply(pattern) => format!("a reply matched pattern {pattern}"),
        Cause::Errors(count) => format!("{count} unknown errors one after the other"),
        Cause::Demand => "on demand".to_owned(),
    };
    format!(
        "flow @{} {} {}: {} to {}, {cause}",
        switch.group,
        switch.control.word(),
        switch.key,
        switch.change.from.word(),
        switch.change.to.word()
    )
}
