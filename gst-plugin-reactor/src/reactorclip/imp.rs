// SPDX-License-Identifier: MIT

use std::sync::{Arc, LazyLock, Mutex};

use gst::{glib, prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_src::CreateSuccess, prelude::*},
};

use super::{
    handoff::{Handoff, Taken, Whole},
    job::{Job, Origin, Task},
    notify,
    settings::{self, Format, Settings},
};
use crate::{
    element::{ElementState, SessionContext, clip_structure, lock, wait_session_closed},
    platform::{Code, Error},
    property,
    session::{Session, settings::Settings as SharedSettings, warm_up},
};

pub static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "reactorclip",
        gst::DebugColorFlags::empty(),
        Some("Reactor clips"),
    )
});

/// Bytes that are read at once.
const BLOCK_SIZE: u32 = 64 << 10;

/// Of the properties that live elements share, those that say where to ask.
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
    own: Mutex<Settings>,
    job: Mutex<Option<Job>>,
    /// The session that it took part in, until that is closed.
    closing: Mutex<Option<Arc<Session>>>,
    /// The clip that a session has answered.
    pub(super) answered: Mutex<Option<gst::Structure>>,
    pub(super) progress: Mutex<notify::Progress>,
}

impl ReactorClip {
    fn own(&self) -> Settings {
        lock(&self.own).clone()
    }

    fn begin(&self) -> Result<(), Error> {
        let object = self.obj();
        let element = object.upcast_ref::<gst::Element>();
        let own = self.own();
        let generation = self.state.begin_generation();
        lock(&self.answered).take();
        *lock(&self.progress) = notify::Progress::default();
        let mut access = self.state.settings().clone();
        access.fill_from_environment();
        let task = Task {
            origin: self.origin(&own)?,
            when: own.request.into(),
            duration: own.duration,
            format: own.format,
            trim: own.trim,
            ready_limit: own.ready_limit(),
            directory: own.directory(),
            access,
            element: element.path_string().to_string(),
        };
        let weak = object.downgrade();
        let report = Box::new(move |report| {
            if let Some(object) = weak.upgrade()
                && object.imp().state.is_current(generation)
            {
                object.imp().show(report);
            }
        });
        *lock(&self.job) = Some(Job::start(task, report)?);
        Ok(())
    }

    /// Where to get the clip, by the properties and the pipeline.
    fn origin(&self, own: &Settings) -> Result<Origin, Error> {
        if let Some(url) = &own.playlist_url {
            return Ok(Origin::Playlist(url.clone()));
        }
        if let Some(clip) = &own.clip {
            let (clip, server) = clip_structure::parse(clip)?;
            return Ok(Origin::Clip(clip, server));
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
        Ok(Origin::Session {
            key: self.context.session_key(element, name.as_deref()),
            name: shown,
        })
    }

    fn end(&self) {
        self.state.end_generation();
        let job = lock(&self.job).take();
        if let Some(session) = job.and_then(Job::cancel) {
            *lock(&self.closing) = Some(session);
        }
    }

    fn output(&self) -> Option<Arc<Handoff>> {
        lock(&self.job).as_ref().map(|job| job.output.clone())
    }

    fn whole(&self) -> Option<Whole> {
        self.output()?.whole()
    }

    fn read(&self, whole: &Whole, offset: u64, length: u32) -> Result<Vec<u8>, gst::FlowError> {
        whole.read(offset, length).map_err(|error| {
            let text = format!("the clip cannot be read from its temporary file: {error}");
            self.fail(&Error::api(Code::Internal, text));
            gst::FlowError::Error
        })
    }

    pub(super) fn fail(&self, error: &Error) {
        self.state.wait_for_playing();
        self.state.fail(self.obj().upcast_ref(), error);
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
            specs.extend(settings::specs());
            specs.extend(notify::specs());
            specs
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let name = pspec.name();
        if SHARED.contains(&name) {
            self.state
                .set_property(self.obj().upcast_ref(), name, value);
        } else {
            lock(&self.own).set(name, value);
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "clip" => {
                let given = lock(&self.own).clip.clone();
                given.or_else(|| lock(&self.answered).clone()).to_value()
            }
            "stats" => lock(&self.progress).structure().to_value(),
            name => {
                let own = lock(&self.own).value(name);
                own.unwrap_or_else(|| self.state.property(pspec))
            }
        }
    }
}

impl GstObjectImpl for ReactorClip {}

impl ElementImpl for ReactorClip {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Reactor clip",
                "Source/Network",
                "Saves what a real-time generative model showed, as one MP4",
                "the gst-plugin-reactor authors",
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
        if transition == gst::StateChange::PlayingToPaused {
            self.state.set_playing(false);
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToPlaying if result.is_ok() => self.state.set_playing(true),
            gst::StateChange::ReadyToNull => {
                let session = lock(&self.closing).take();
                let limit = self.state.settings().close_limit();
                let element = self.obj();
                wait_session_closed(element.upcast_ref(), session.as_deref(), limit);
                warm_up::wait_for_threads(limit);
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
        // What has begun is finished: half a clip is none.
        if let gst::EventView::Eos(_) = event.view()
            && let Some(job) = &*lock(&self.job)
        {
            job.end();
            return true;
        }
        self.parent_send_event(event)
    }
}

impl BaseSrcImpl for ReactorClip {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        self.begin().map_err(|error| {
            self.state.fail(self.obj().upcast_ref(), &error);
            gst::error_msg!(gst::CoreError::StateChange, ["{error}"])
        })
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.end();
        Ok(())
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(output) = self.output() {
            output.set_flushing(true);
        }
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(output) = self.output() {
            output.set_flushing(false);
        }
        Ok(())
    }

    fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
        let variant = match self.own().format {
            Format::Faststart => "iso",
            Format::Fragmented => "iso-fragmented",
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
        self.own().format == Format::Faststart
    }

    fn size(&self) -> Option<u64> {
        self.whole().map(|whole| whole.size)
    }

    fn create(
        &self,
        offset: u64,
        _buffer: Option<&mut gst::BufferRef>,
        length: u32,
    ) -> Result<CreateSuccess, gst::FlowError> {
        let output = self.output().ok_or(gst::FlowError::Flushing)?;
        let buffer = match output.take() {
            Taken::Flushing => return Err(gst::FlowError::Flushing),
            Taken::Failed => return Err(gst::FlowError::Error),
            Taken::End => return Err(gst::FlowError::Eos),
            Taken::Whole(whole) if offset >= whole.size => return Err(gst::FlowError::Eos),
            Taken::Whole(whole) => {
                let bytes = self.read(&whole, offset, length)?;
                let mut buffer = gst::Buffer::from_mut_slice(bytes);
                if let Some(buffer) = buffer.get_mut() {
                    buffer.set_offset(offset);
                    buffer.set_offset_end(offset + buffer.size() as u64);
                }
                buffer
            }
            Taken::Bytes(bytes) => gst::Buffer::from_slice(bytes),
        };
        Ok(CreateSuccess::NewBuffer(buffer))
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Duration(duration) = query.view_mut()
            && let Some(whole) = self.whole()
        {
            match duration.format() {
                gst::Format::Time => duration.set(whole.duration),
                gst::Format::Bytes => duration.set(gst::format::Bytes::from_u64(whole.size)),
                _ => return BaseSrcImplExt::parent_query(self, query),
            }
            return true;
        }
        BaseSrcImplExt::parent_query(self, query)
    }
}
