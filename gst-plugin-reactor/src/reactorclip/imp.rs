// SPDX-License-Identifier: MIT

//! The GObject of reactorclip: properties, states and the source pad. Called by
//! the application's and the streaming thread; never makes a request, which is
//! the job's.

use std::sync::{Arc, LazyLock, Mutex};

use gst::{glib, prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_src::CreateSuccess, prelude::*},
};

use super::{
    handoff::{CompleteFile, Handoff, HandoffItem},
    job::{ClipOrigin, Job, JobConfig},
    progress::{self, Progress},
    settings::{ClipFormat, ClipSettings},
};
use crate::{
    element::{
        ElementState, SessionContext, clip_structure, lifecycle::is_descending, lock,
        wait_session_closed,
    },
    gst_helpers::element_metadata,
    platform::{Code, Error},
    property,
    session::{Session, settings::Settings as SharedSettings, warm_up},
};

/// Bytes of a buffer.
const BLOCK_SIZE: u32 = 64 << 10;

/// Those of the live elements' properties that name the session and server.
const SHARED: [&str; 6] = [
    "session",
    "api-url",
    "local",
    "api-key",
    "jwt",
    "close-timeout",
];

#[derive(Default)]
#[allow(
    missing_debug_implementations,
    reason = "a GObject is described by its properties"
)]
pub struct ReactorClip {
    pub(super) state: ElementState,
    context: SessionContext,
    settings: Mutex<ClipSettings>,
    job: Mutex<Option<Job>>,
    /// The session of the last job, until that is closed.
    closing: Mutex<Option<Arc<Session>>>,
    /// The answer of a session.
    pub(super) answered_clip: Mutex<Option<gst::Structure>>,
    pub(super) progress: Mutex<Progress>,
}

impl ReactorClip {
    pub(super) fn settings(&self) -> ClipSettings {
        lock(&self.settings).clone()
    }

    fn start_job(&self) -> Result<(), Error> {
        let object = self.obj();
        let element = object.upcast_ref::<gst::Element>();
        let settings = self.settings();
        let generation = self.state.begin_generation();
        lock(&self.answered_clip).take();
        *lock(&self.progress) = Progress::default();
        let mut access = self.state.settings().clone();
        access.fill_from_environment();
        let config = JobConfig {
            origin: self.find_origin(&settings)?,
            settings,
            access,
            element: element.path_string().to_string(),
        };
        let weak = object.downgrade();
        let publish = Box::new(move |update| {
            if let Some(object) = weak.upgrade()
                && object.imp().state.is_current(generation)
            {
                object.imp().publish(update);
            }
        });
        *lock(&self.job) = Some(Job::start(config, publish)?);
        Ok(())
    }

    /// Where the clip is, by the properties and the pipeline.
    fn find_origin(&self, settings: &ClipSettings) -> Result<ClipOrigin, Error> {
        if let Some(url) = &settings.playlist_url.0 {
            return Ok(ClipOrigin::Playlist(url.clone()));
        }
        if let Some(clip) = &settings.clip {
            let (clip, server) = clip_structure::parse(clip)?;
            return Ok(ClipOrigin::Clip(clip, server));
        }
        let object = self.obj();
        let element = object.upcast_ref();
        let name = self.state.settings().session.clone();
        let shown = match &name {
            Some(name) => format!("\"{name}\""),
            None => "in this pipeline".to_owned(),
        };
        let name = match name {
            None => self.context.session_of_pipeline(element)?,
            name => name,
        };
        Ok(ClipOrigin::Session {
            key: self.context.session_key(element, name.as_deref()),
            name: shown,
        })
    }

    fn stop_job(&self) {
        self.state.end_generation();
        let job = lock(&self.job).take();
        if let Some(session) = job.and_then(Job::cancel) {
            let older = lock(&self.closing).replace(session);
            // Leaves it, which takes locks: not with this one held.
            drop(older);
        }
    }

    fn handoff(&self) -> Option<Arc<Handoff>> {
        lock(&self.job).as_ref().map(|job| job.handoff.clone())
    }

    fn complete_file(&self) -> Option<CompleteFile> {
        self.handoff()?.complete_file()
    }

    fn read_file(
        &self,
        file: &CompleteFile,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, gst::FlowError> {
        file.read(offset, length).map_err(|error| {
            let text = format!("the clip cannot be read from its temporary file: {error}");
            self.fail(&Error::api(Code::Internal, text));
            gst::FlowError::Flushing
        })
    }

    pub(super) fn fail(&self, error: &Error) {
        if self.state.wait_for_playing() {
            self.state.fail(self.obj().upcast_ref(), error);
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for ReactorClip {
    const NAME: &'static str = "GstReactorClip";
    type Type = super::ReactorClip;
    type ParentType = gst_base::BaseSrc;
}

impl ObjectImpl for ReactorClip {
    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element.set_format(gst::Format::Bytes);
        element.set_blocksize(BLOCK_SIZE);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut specs = property::specs(SharedSettings::PROPERTIES);
            specs.retain(|spec| SHARED.contains(&spec.name()));
            specs.extend(property::specs(ClipSettings::PROPERTIES));
            specs.extend(progress::specs());
            specs
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        crate::element::gobject::warn_if_late(self.obj().upcast_ref(), pspec);
        let name = pspec.name();
        if SHARED.contains(&name) {
            self.state.set_property(name, value);
        } else if let Some(property) = property::find(ClipSettings::PROPERTIES, name) {
            (property.set)(&mut lock(&self.settings), value);
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "clip" => {
                let clip = lock(&self.settings).clip.clone();
                let clip = clip.or_else(|| lock(&self.answered_clip).clone());
                clip.to_value()
            }
            "stats" => lock(&self.progress)
                .to_structure("reactor-stats")
                .to_value(),
            name => match property::find(ClipSettings::PROPERTIES, name) {
                Some(property) => (property.value)(&lock(&self.settings), &property.info),
                None => self.state.property(pspec),
            },
        }
    }
}

impl GstObjectImpl for ReactorClip {}

impl ElementImpl for ReactorClip {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            element_metadata(
                "Reactor clip",
                "Source/Network",
                "Saves what a real-time generative model showed, as one MP4",
                "gst-launch-1.0 reactorsrc local=true ! autovideosink  reactorclip duration=5 ! filesink location=clip.mp4",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst::Caps::builder("video/quicktime")
                .field("variant", gst::List::new(["iso", "iso-fragmented"]))
                .build();
            let template = gst::PadTemplate::new(
                "src",
                gst::PadDirection::Src,
                gst::PadPresence::Always,
                &caps,
            );
            template.into_iter().collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let is_start = transition == gst::StateChange::ReadyToPaused;
        if is_start && is_descending(self.obj().upcast_ref()) {
            self.state.set_start_skipped(true);
            return Ok(gst::StateChangeSuccess::Success);
        }
        let skipped = self.state.set_start_skipped(false);
        if skipped && transition == gst::StateChange::PausedToPlaying {
            self.parent_change_state(gst::StateChange::ReadyToPaused)?;
        }
        match transition {
            gst::StateChange::PlayingToPaused => self.state.set_playing(false),
            gst::StateChange::ReadyToPaused => {
                // Here and not when basesrc starts, which would post another error.
                if let Err(error) = self.find_origin(&self.settings()) {
                    self.state.fail(self.obj().upcast_ref(), &error);
                    return Err(gst::StateChangeError);
                }
            }
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToPlaying if result.is_ok() => self.state.set_playing(true),
            gst::StateChange::ReadyToNull => {
                let session = lock(&self.closing).take();
                let limit = self.state.settings().close_limit();
                let element = self.obj();
                wait_session_closed(element.upcast_ref(), session.as_deref(), limit);
                warm_up::wait_for_threads();
                self.context.release();
            }
            _ => {}
        }
        result
    }

    fn set_context(&self, context: &gst::Context) {
        self.context.set(context);
        self.parent_set_context(context);
    }

    fn send_event(&self, event: gst::Event) -> bool {
        // A clip that was begun is finished: a part of it is not a clip.
        if let gst::EventView::Eos(_) = event.view()
            && let Some(job) = &*lock(&self.job)
        {
            job.request_now();
            return true;
        }
        self.parent_send_event(event)
    }
}

impl BaseSrcImpl for ReactorClip {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        self.start_job().map_err(|error| {
            self.state.fail(self.obj().upcast_ref(), &error);
            gst::error_msg!(gst::CoreError::StateChange, ["{error}"])
        })
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.stop_job();
        Ok(())
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(handoff) = self.handoff() {
            handoff.set_flushing(true);
        }
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(handoff) = self.handoff() {
            handoff.set_flushing(false);
        }
        Ok(())
    }

    fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
        let variant = match self.settings().format {
            ClipFormat::Faststart => "iso",
            ClipFormat::Fragmented => "iso-fragmented",
        };
        let caps = gst::Caps::builder("video/quicktime")
            .field("variant", variant)
            .build();
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
            None => caps,
        })
    }

    fn is_seekable(&self) -> bool {
        self.settings().format == ClipFormat::Faststart
    }

    fn size(&self) -> Option<u64> {
        self.complete_file().map(|file| file.size)
    }

    fn create(
        &self,
        offset: u64,
        _buffer: Option<&mut gst::BufferRef>,
        length: u32,
    ) -> Result<CreateSuccess, gst::FlowError> {
        let handoff = self.handoff().ok_or(gst::FlowError::Flushing)?;
        let buffer = match handoff.wait_next() {
            HandoffItem::Flushing => return Err(gst::FlowError::Flushing),
            // The error is posted. basesrc would post another one, and so would
            // what is downstream.
            HandoffItem::Failed => return Err(gst::FlowError::Flushing),
            HandoffItem::End => return Err(gst::FlowError::Eos),
            HandoffItem::File(file) if offset >= file.size => return Err(gst::FlowError::Eos),
            HandoffItem::File(file) => {
                let bytes = self.read_file(&file, offset, length)?;
                let mut buffer = gst::Buffer::from_mut_slice(bytes);
                if let Some(buffer) = buffer.get_mut() {
                    buffer.set_offset(offset);
                    buffer.set_offset_end(offset + buffer.size() as u64);
                }
                buffer
            }
            HandoffItem::Bytes(bytes) => gst::Buffer::from_slice(bytes),
        };
        Ok(CreateSuccess::NewBuffer(buffer))
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Duration(duration) = query.view_mut()
            && let Some(file) = self.complete_file()
        {
            match duration.format() {
                gst::Format::Time => duration.set(file.duration),
                gst::Format::Bytes => duration.set(gst::format::Bytes::from_u64(file.size)),
                _ => return BaseSrcImplExt::parent_query(self, query),
            }
            return true;
        }
        BaseSrcImplExt::parent_query(self, query)
    }
}
