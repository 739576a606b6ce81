// SPDX-License-Identifier: MIT

//! Video and sound both ways in one pipeline, with pads that take commands and a pad that has
//! messages.

use gst::prelude::*;
use gst_app::AppSrc;

use crate::{frames::FrameReader, pipeline::TestPipeline};

/// Between two commands that take 5 s.
const SLOW_EVERY: u64 = 20;
/// In which second after those the first of them is sent.
const SLOW_AT: u64 = 5;
/// The prompts of a second.
pub const PROMPTS: u64 = 2;

/// The elements are `s` and `r`; the sink behind the pad `messages` is `m`.
#[derive(Debug)]
pub struct CommandPads {
    pub running: TestPipeline,
    pub frames: FrameReader,
}

impl CommandPads {
    /// Both elements get the properties. Does not play yet.
    pub fn parse(properties: &str) -> Self {
        let appsrc = |name: &str, caps: &str, pad: &str| {
            format!(
                "appsrc name={name} format=time is-live=true do-timestamp=true caps={caps} \
                 ! s.{pad} "
            )
        };
        let running = TestPipeline::parse(&format!(
            "reactorsink name=s {properties} videotestsrc is-live=true pattern=ball \
             ! video/x-raw,format=I420,width=320,height=180,framerate=15/1 ! tee name=t ! queue \
             ! s.video_camera t. ! queue ! videorate ! video/x-raw,framerate=1/1 ! jpegenc \
             ! s.command_set_image {}{} audiotestsrc is-live=true ! s. \
             reactorsrc name=r {properties} r.video_main_video \
             ! videoconvert ! video/x-raw,format=I420 ! identity name=i ! fakesink sync=false \
             r.audio_main_audio ! fakesink sync=false r.messages ! fakesink name=m async=false",
            appsrc("prompts", "text/x-raw,format=utf8", "command_set_prompt"),
            appsrc("commands", "application/x-json", "commands"),
        ));
        Self {
            frames: FrameReader::watch(&running.pad("i", "src")),
            running,
        }
    }

    /// Sends what each second has: [`PROMPTS`] as text and a JSON command; now and then a command
    /// that takes 5 s, which delays those behind it and no frame.
    pub fn push_second(&self, second: u64) {
        for n in 0..PROMPTS {
            self.push("prompts", format!("prompt {second}.{n}\n"));
        }
        self.push("commands", format!(r#"{{"echo":{{"text":"{second}"}}}}"#));
        if second % SLOW_EVERY == SLOW_AT {
            self.push("commands", r#"{"sleep":{"seconds":5}}"#.into());
        }
    }

    /// Whether a command that takes 5 s is at work in this second.
    pub fn is_slow(second: u64) -> bool {
        (SLOW_AT..SLOW_AT + 6).contains(&(second % SLOW_EVERY))
    }

    fn push(&self, appsrc: &str, content: String) {
        let appsrc = self.running.by_name(appsrc).downcast::<AppSrc>().unwrap();
        // A pipeline that has failed takes nothing more; its bus says why.
        let _ = appsrc.push_buffer(gst::Buffer::from_slice(content.into_bytes()));
    }
}
