// Runs a guest in real time at a terminal, with a Recorder: brings stdin to it, writes its console
// to stdout, sleeps while it sleeps, and ends with it, at the time-out, or when the user says so.
#pragma once

#include <cstdint>
#include <optional>

#include "replay/recorder.h"
#include "replay/ticker.h"
#include "verbs/console.h"
#include "verbs/interruption.h"

namespace node_mesh {

class LiveRun final : Kickable {
 public:
  struct Options {
    std::optional<std::uint64_t> timeout_ns;
  };
  LiveRun(Recorder& recorder, HostClock& host, ConsoleOutput& output, ConsoleInput& input,
          Interruption& interruption, Options options);
  ~LiveRun() override;

  // Runs to the end and finishes the recording; returns how it ended, or nothing when the host
  // failed the machine: the recording then has no end. `end_early` is asked between two stretches
  // (a log that cannot be written).
  std::optional<EndReason> run(Machine& machine, const std::function<bool()>& end_early);

 private:
  void kick() override { recorder_.kick(); }
  void take_input();
  void wait(std::uint64_t wake_host_ns);
  std::optional<EndReason> ended_from_outside();

  Recorder& recorder_;
  HostClock& host_;
  ConsoleOutput& output_;
  ConsoleInput& input_;
  Interruption& interruption_;
  Ticker ticker_;
  std::uint64_t end_host_ns_ = UINT64_MAX;
  std::uint64_t retry_host_ns_ = 0;  // for a guest that did not take all
  Bytes typed_;                      // read from stdin and not yet taken by the guest
  std::uint64_t input_seq_ = 0;
};

}  // namespace node_mesh
