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
#include <locale.h>

static GMainLoop *loop;
static int status = 0;

// The model's commands are children of the element, made when it is known which the model has.
static void on_child_added(GstChildProxy *model, GObject *child, gchar *name, gpointer prompt) {
  if (g_str_equal(name, "set_prompt"))
    g_object_set(child, "prompt", prompt, NULL); // sends the command
}

// On the bus: what the model says and answers; a lost connection is made anew by the element.
static void print_message(const GstStructure *message) {
  if (gst_structure_has_name(message, "reactor-message"))
    g_print("the model: %s\n", gst_structure_get_string(message, "data"));
  else if (gst_structure_has_name(message, "reactor-reply"))
    g_print("%s was answered\n", gst_structure_get_string(message, "command"));
  else if (gst_structure_has_name(message, "reactor-interrupted"))
    g_print("the connection is lost, another one is made\n");
  else if (gst_structure_has_name(message, "reactor-resumed"))
    g_print("connected again\n");
}

static gboolean on_message(GstBus *bus, GstMessage *message, gpointer unused) {
  if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ELEMENT) {
    print_message(gst_message_get_structure(message));
  } else if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS) { // the server ended the session
    g_main_loop_quit(loop);
  } else if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
    const GstStructure *details = NULL; // code, component, recoverable, retry-after, ...
    GError *error = NULL;
    gst_message_parse_error(message, &error, NULL);
    gst_message_parse_error_details(message, &details);
    const gchar *code = details ? gst_structure_get_string(details, "code") : NULL;
    g_printerr("%s (%s)\n", error->message, code ? code : "no code");
    g_clear_error(&error);
    status = 1;
    g_main_loop_quit(loop);
  }
  return G_SOURCE_CONTINUE;
}

static gboolean on_interrupt(gpointer unused) {
  g_main_loop_quit(loop);
  return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv) {
  setlocale(LC_ALL, ""); // g_print writes in the terminal's encoding
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
  if (argc > 1)
    g_signal_connect(model, "child-added", G_CALLBACK(on_child_added), argv[1]);
  GstBus *bus = gst_element_get_bus(pipeline);
  gst_bus_add_watch(bus, on_message, NULL);
  loop = g_main_loop_new(NULL, FALSE);
  g_unix_signal_add(SIGINT, on_interrupt, NULL);
  g_unix_signal_add(SIGTERM, on_interrupt, NULL);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  g_main_loop_run(loop);
  gst_element_set_state(pipeline, GST_STATE_NULL); // ends the session
  gst_bus_remove_watch(bus);
  gst_object_unref(bus);
  gst_object_unref(model);
  gst_object_unref(pipeline);
  return status;
}
