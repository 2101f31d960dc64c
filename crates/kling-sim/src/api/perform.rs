//! What each operation does.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;

use crate::{
    call::Call,
    list::ListAnswer,
    operation::{Action, Operation},
    refusal::Refusal,
    reply::{self, AsScripted, End, Reply, Scripted},
    task_id::TaskId,
    world::World,
};

/// The number of events in one answer of `POST /mcp`.
const MCP_EVENTS: u32 = 3;

/// Performs an operation whose request has arrived whole.
pub(super) fn perform(
    world: &mut World,
    operation: &'static Operation,
    call: &Call,
    mcp_pause: Duration,
) -> Result<Reply, Refusal> {
    let account = world.select(operation.selector, call);
    let shown = match &operation.action {
        Action::StartJob(kind) => {
            let started = world.submit(kind, operation.path, call, account)?;
            if !started.is_told {
                return Err(Refusal::Broken);
            }
            world.started(&started)
        }
        Action::ListAccounts => return Ok(list_accounts(world, call)),
        Action::SaveAccount => return Ok(reply::created(&world.save_account(call)?)),
        Action::ShowAccount => world.show_account(&call.segment)?,
        Action::RemoveAccount => {
            world.drop_account(&call.segment)?;
            return Ok(reply::no_content());
        }
        Action::Scheduler => {
            if call.tells_us() {
                world.tell_jobs();
            }
            world.scheduler()
        }
        Action::SchedulerAvailable => {
            if call.tells_us() {
                world.tell_jobs();
                world.tell_caps();
            }
            world.scheduler_available()
        }
        Action::StopTracking => {
            world.stop_tracking(task_id(call)?)?;
            return Ok(reply::no_content());
        }
        Action::ListTasks => world.tasks(&account?, call)?,
        Action::ShowTask => world.task(&account?, task_id(call)?)?,
        Action::DeleteTask => world.delete_task(&account?, task_id(call)?)?,
        Action::ListAssets => world.assets(&account?),
        Action::Download => world.download(&account?, call)?,
        Action::Upload => world.upload(&account?, call)?,
        Action::ListUploads => world.uploads(&account?),
        Action::DeleteUploads => world.delete_uploads(&account?, call)?,
        Action::CreateAvatar => world.create_avatar(&account?),
        Action::ListAvatars => world.avatars(&account?, call),
        Action::DeleteAvatar => world.delete_avatar(&account?, &call.segment)?,
        Action::CreateElement => world.create_element(&account?, call)?,
        Action::ListElements => world.elements(&account?),
        Action::ShowElement => world.element(&account?, &call.segment)?,
        Action::DeleteElement => world.delete_element(&account?, &call.segment)?,
        Action::Speak => world.speak(&account?),
        Action::Canned(json) => return account.map(|_| reply::json_text(StatusCode::OK, *json)),
        Action::Mcp => return Ok(mcp_events(mcp_pause)),
    };
    Ok(reply::ok(&shown))
}

fn task_id(call: &Call) -> Result<TaskId, Refusal> {
    let id: i64 = call.segment.parse().or(Err(Refusal::TaskIdInvalid))?;
    Ok(id.into())
}

/// `GET /accounts`, as scripted. Only the true list counts as telling the caps.
fn list_accounts(world: &mut World, call: &Call) -> Reply {
    let (answer, list) = (world.listing.begin(), world.account_list());
    if answer == ListAnswer::Normal && call.tells_us() {
        world.tell_list();
    }
    match answer {
        ListAnswer::Fault(fault) => {
            let mut reply = fault.reply(list);
            reply.extensions_mut().insert(AsScripted);
            reply
        }
        ListAnswer::Normal if world.is_configured() => reply::json_text(StatusCode::OK, list),
        ListAnswer::Normal => Refusal::NotConfigured.into(),
    }
}

/// `POST /mcp`: events of a stream, the first at once and each other after a pause.
fn mcp_events(pause: Duration) -> Reply {
    let events = (1..=MCP_EVENTS).map(|n| {
        let result = json!({ "content": [{ "type": "text", "text": format!("part {n}") }] });
        let message = json!({ "jsonrpc": "2.0", "id": n, "result": result });
        Bytes::from(format!("event: message\ndata: {message}\n\n"))
    });
    let body = Scripted::new(events, End::Whole).pause(pause).boxed();
    reply::with_body(StatusCode::OK, "text/event-stream", body)
}
