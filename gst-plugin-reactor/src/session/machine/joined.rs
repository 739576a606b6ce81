// SPDX-License-Identifier: MIT

//! What the user is told of a session that is not as it was asked for: one that
//! ran already, or one of another model.

use super::{
    state::Machine,
    types::{MachineEvent, Progress},
};
use crate::platform::{
    Code, Error,
    coordinator::{Ownership, SessionDescriptor},
};

impl Machine {
    pub(super) fn report_joined(&mut self, descriptor: &SessionDescriptor, ownership: Ownership) {
        if ownership == Ownership::Joined {
            if self.policy.adopt.is_none() {
                self.emit(MachineEvent::Joined);
                let text = "Joined the session that already runs".to_owned();
                self.report_progress(Progress::Continue(text));
            }
            if self.policy.has_arguments {
                let text = "the session was started by another client: arguments were not sent";
                self.warn("ARGUMENTS_IGNORED", text.to_owned());
            }
        }
        let wanted = self.policy.model_of_runtime.as_deref();
        if let (Some(wanted), Some(served)) = (wanted, descriptor.model_name.as_deref())
            && wanted != served
        {
            let text = format!("the local runtime serves the model {served}, not {wanted}");
            self.warn("MODEL_MISMATCH", text);
        }
    }

    fn warn(&mut self, code: &'static str, text: String) {
        let error = Error::api(Code::Other(code.into()), text).during("start_session");
        self.emit(MachineEvent::Warning(error));
    }
}
