// SPDX-License-Identifier: MIT
//
// Plays a model's video in a window, sends it a prompt, and prints what happens:
//
//   gcc examples/watch.c -o target/watch $(pkg-config --cflags --libs gstreamer-1.0)
//   ./target/watch "a forest at dawn"
//
// The runtime of this machine serves the model. REACTOR_WATCH_SINK names another element than
// autovideosink, for a machine without a display. Ctrl-C ends the session.

#include <glib-unix.h>
#include <gst/gst.h>

static GMainLoop *loop;

// The answer to send-command, on the element's thread: the fields of the reply, or `error`.
static void on_reply(GstPromise *promise, gpointer unused) {
  const GstStructure *reply = gst_promise_get_reply(promise);
  gchar *text = reply ? gst_structure_to_string(reply) : g_strdup("nothing");
  g_print("reply: %s\n", text);
  g_free(text);
}

static void send_prompt(GstElement *source, const gchar *prompt) {
  gchar *escaped = g_strescape(prompt, NULL);
  gchar *json = g_strdup_printf("{\"prompt\":\"%s\"}", escaped);
  GstPromise *promise = gst_promise_new_with_change_func(on_reply, NULL, NULL);
  g_signal_emit_by_name(source, "send-command", "set_prompt", json, promise);
  gst_promise_unref(promise);
  g_free(json);
  g_free(escaped);
}

static gboolean on_message(GstBus *bus, GstMessage *message, gpointer unused) {
  switch (GST_MESSAGE_TYPE(message)) {
  case GST_MESSAGE_ERROR: { // details: code, component, recoverable, retry-after, ...
    const GstStructure *details = NULL;
    GError *error = NULL;
    gst_message_parse_error(message, &error, NULL);
    gst_message_parse_error_details(message, &details);
    const gchar *code = details ? gst_structure_get_string(details, "code") : NULL;
    g_printerr("%s (%s)\n", error->message, code ? code : "no code");
    g_clear_error(&error);
    g_main_loop_quit(loop);
    break;
  }
  case GST_MESSAGE_EOS: // the model's side ended the session
    g_main_loop_quit(loop);
    break;
  case GST_MESSAGE_ELEMENT: // the element makes a lost connection anew by itself
    if (gst_message_has_name(message, "reactor-interrupted"))
      g_print("the connection is lost, another one is made\n");
    else if (gst_message_has_name(message, "reactor-resumed"))
      g_print("connected again\n");
    else if (gst_message_has_name(message, "reactor-message"))
      g_print("the model: %s\n",
              gst_structure_get_string(gst_message_get_structure(message), "data"));
    break;
  default:
    break;
  }
  return G_SOURCE_CONTINUE;
}

static gboolean on_interrupt(gpointer unused) {
  g_main_loop_quit(loop);
  return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv) {
  gst_init(&argc, &argv);
  const gchar *sink = g_getenv("REACTOR_WATCH_SINK");
  const gchar *url = g_getenv("REACTOR_WATCH_URL");
  GError *error = NULL;
  gchar *line = g_strdup_printf("reactorsrc name=model local=true ! videoconvert ! %s",
                                sink ? sink : "autovideosink");
  GstElement *pipeline = gst_parse_launch(line, &error);
  g_free(line);
  if (error) {
    g_printerr("%s\n", error->message);
    return 1;
  }
  GstElement *model = gst_bin_get_by_name(GST_BIN(pipeline), "model");
  if (url)
    g_object_set(model, "api-url", url, NULL);
  GstBus *bus = gst_element_get_bus(pipeline);
  gst_bus_add_watch(bus, on_message, NULL);
  loop = g_main_loop_new(NULL, FALSE);
  g_unix_signal_add(SIGINT, on_interrupt, NULL);
  g_unix_signal_add(SIGTERM, on_interrupt, NULL);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  if (argc > 1)
    send_prompt(model, argv[1]); // waits for the session
  g_main_loop_run(loop);
  gst_element_set_state(pipeline, GST_STATE_NULL); // ends the session
  gst_bus_remove_watch(bus);
  gst_object_unref(bus);
  gst_object_unref(model);
  gst_object_unref(pipeline);
  return 0;
}
