// A `vmm serve` process with a tiny guest, seen from the node's end of its stream.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "replay/file.h"
#include "wire/control.h"

namespace node_mesh::test {

class ServedGuest {
 public:
  ServedGuest();
  ~ServedGuest();
  ServedGuest(const ServedGuest&) = delete;
  ServedGuest& operator=(const ServedGuest&) = delete;

  void send(const std::string& kind, nlohmann::json fields = nlohmann::json::object());
  void send_chunk(const Bytes& chunk);
  void send_raw(std::span<const std::byte> bytes);
  // The frame that says that it is ready. With a checkpoint it begins there.
  nlohmann::json start(const std::string& guest, const std::string& checkpoint = "");
  void type(std::uint64_t seq, std::string_view text);

  // Reads until a control frame of this kind comes; what came before it is noted below. Nothing
  // when the stream ended or nothing came for ten seconds.
  std::optional<nlohmann::json> await(const std::string& kind);
  // Reads until the console has this text in it.
  bool await_console(std::string_view text);

  void kill_now();
  void close_stream();
  int wait_for_exit();  // its exit status, or -1 for a signal

  bool commits = true;  // answers each chunk with "committed"
  std::vector<Bytes> chunks;
  std::string console;
  std::string last_error;  // the message of the error frame
  // Chunks that had come before the newest console output.
  std::size_t chunks_before_output = 0;

 private:
  bool read_one(std::optional<nlohmann::json>& control);
  FileDescriptor socket_;
  FrameReader reader_;
  pid_t pid_ = -1;
};

}  // namespace node_mesh::test
