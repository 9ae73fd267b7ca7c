// The stream to the node: a thread reads and parses frames into a bounded queue and writes what
// waits in another, so that neither a node that does not read nor one that does not write can hold
// up the thread that runs the guest. It never blocks its callers.
//
// Queues: the incoming one at its cap stops reading (the node's socket fills, the node waits); the
// outgoing one at its cap is reported by `congested()`, and the caller lets the guest wait.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "replay/file.h"
#include "replay/host_clock.h"
#include "wire/control.h"

namespace node_mesh {

inline constexpr std::size_t incoming_bytes_max = 16 << 20;
inline constexpr std::size_t outgoing_bytes_high = 4 << 20;

class Channel {
 public:
  Channel(FileDescriptor socket, HostClock& clock);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  struct Arrival {
    IncomingFrame frame;
    std::size_t bytes = 0;
    std::uint64_t host_ns = 0;  // when it came
  };
  std::optional<Arrival> take();
  bool has_incoming() const;
  // Waits for a frame, the end of the stream or room in the outgoing queue, at most `wait_ns`.
  void wait(std::uint64_t wait_ns);

  void send(Bytes frame);
  bool congested() const;
  // Writes out what is queued, for at most `wait_ns`.
  void drain(std::uint64_t wait_ns);

  // The node has gone, or sent what is no frame (see error()).
  bool closed() const;
  std::string error() const;

  // Called from the channel's thread, under its lock, when there is something to look at: it must
  // not call the channel. May be empty.
  void set_kick(std::function<void()> kick);

 private:
  void loop();
  void read_frames();
  bool write_frames();
  void close_with(std::string error);
  void wake_thread() const;

  FileDescriptor socket_;
  FileDescriptor wakeup_;
  HostClock& clock_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Arrival> incoming_;
  std::size_t incoming_bytes_ = 0;
  std::deque<Bytes> outgoing_;
  std::size_t outgoing_bytes_ = 0;
  std::size_t front_written_ = 0;
  bool closed_ = false;     // the node is gone
  bool read_over_ = false;  // or sent what is no frame: it can still be told so
  bool over_ = false;
  std::string error_;
  std::function<void()> kick_;
  FrameReader reader_;  // of the thread alone
  std::thread thread_;
};

}  // namespace node_mesh
