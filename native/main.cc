// The virtual machine monitor: one process per copy of a machine. It parses its command line, and
// hands over to one verb.
#include <sys/prctl.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>

#include "verbs/verbs.h"

namespace {

// A guest may find a way to make this process misbehave: it gains no privileges by executing
// anything, and its memory, which holds the guest's secrets, is never written out as a core file.
void give_up_privileges() {
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  // A file that may not grow is an error of write(), like a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
}

int run(int argc, char** argv) {
  // Its help speaks of the program that the user has called, which may have become this one.
  const std::string name = argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "vmm";
  CLI::App app("node-mesh virtual machine monitor", name);
  app.require_subcommand(1);
  node_mesh::Verb verb;
  node_mesh::add_record_verb(app, verb);
  node_mesh::add_run_verb(app, verb);
  node_mesh::add_replay_verb(app, verb);
  node_mesh::add_verify_verb(app, verb);
  node_mesh::add_inspect_verb(app, verb);
  node_mesh::add_probe_verb(app, verb);
  node_mesh::add_serve_verb(app, verb);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    return node_mesh::fail(
        "Cannot use these arguments: " + std::string(error.what()) + "; see --help",
        node_mesh::exit_usage);
  }
  return verb();
}

}  // namespace

int main(int argc, char** argv) {
  give_up_privileges();
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    return node_mesh::fail("Cannot go on: the host has too little memory; give the guest less");
  } catch (const std::exception& error) {
    return node_mesh::fail(std::string("Cannot go on: ") + error.what());
  }
}
