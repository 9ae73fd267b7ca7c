// vmm serve: a copy of a machine for the node that started this process, over descriptor 3. It dies
// with its parent, in more than one way: killed by the kernel, or when the stream closes.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>

#include "verbs/verbs.h"
#include "wire/session.h"

namespace node_mesh {
namespace {

constexpr int node_descriptor = 3;

int serve() {
  int type = 0;
  socklen_t length = sizeof type;
  if (::getsockopt(node_descriptor, SOL_SOCKET, SO_TYPE, &type, &length) != 0 ||
      type != SOCK_STREAM) {
    return fail("Cannot serve on \"descriptor 3\": it is no stream socket; start it from a node",
                exit_usage);
  }
  const pid_t parent = ::getppid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) return exit_failed;  // the parent died in between
  ::fcntl(node_descriptor, F_SETFD, FD_CLOEXEC);
  std::signal(SIGPIPE, SIG_IGN);
  const std::string missing = missing_cpu_features();
  MonotonicClock clock;
  Channel channel(FileDescriptor(node_descriptor), clock);
  if (!missing.empty()) {
    channel.send(
        encode_control("error", {{"message", "Cannot run a guest: this CPU lacks " + missing}}));
    channel.drain(1'000'000'000);
    return exit_failed;
  }
  return Session(channel, clock).run();
}

}  // namespace

void add_serve_verb(CLI::App& app, Verb& chosen) {
  CLI::App* verb = app.add_subcommand("serve", "run a copy of a machine for a node (descriptor 3)");
  verb->callback([&chosen] { chosen = serve; });
}

}  // namespace node_mesh
