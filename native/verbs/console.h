// The guest's console on this process's stdout and stdin. Output is gathered and written when its
// owner says so, never in the middle of an instruction, and never blocks the owner for longer than
// it allows. Input from a terminal is taken key by key: Ctrl-C ends the run, Ctrl-Z and Ctrl-\ go
// to the guest, and Ctrl-A begins a command: x ends the run, c is Ctrl-C for the guest, a is Ctrl-A
// itself.
#pragma once

#include <termios.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "machine/machine.h"
#include "replay/byte_codec.h"
#include "replay/sha256.h"

namespace node_mesh {

class ConsoleOutput final : public ConsoleSink {
 public:
  // `fd` < 0: count and hash only.
  explicit ConsoleOutput(int fd) : fd_(fd) {}
  void console_output(std::uint64_t offset, std::span<const std::byte> bytes) override;

  // What was not written yet will not be.
  void forget_pending() {
    buffer_.clear();
    written_ = 0;
  }
  // Writes what can be written without blocking.
  void write_some();
  // Is so much unwritten that the guest should wait?
  bool behind() const { return pending() > pending_bytes_max; }
  std::size_t pending() const { return buffer_.size() - written_; }
  int fd() const { return fd_; }
  // errno of a failed write: nothing more is written then.
  std::optional<int> failure() const { return failure_; }

  std::uint64_t bytes() const { return bytes_; }
  Sha256 sha256() const { return hash_.finish(); }

 private:
  static constexpr std::size_t pending_bytes_max = 256 << 10;
  const int fd_;
  Bytes buffer_;
  std::size_t written_ = 0;
  std::optional<int> failure_;
  std::uint64_t bytes_ = 0;
  Sha256Stream hash_;
};

class ConsoleInput {
 public:
  explicit ConsoleInput(int fd);
  ~ConsoleInput();
  ConsoleInput(const ConsoleInput&) = delete;
  ConsoleInput& operator=(const ConsoleInput&) = delete;

  // The descriptor to wait on, or -1 at the end of input.
  int fd() const { return fd_; }
  // Reads what is there now, if anything (without blocking), with terminal commands taken out.
  Bytes read_some();
  bool quit_requested() const { return quit_requested_; }

 private:
  Bytes take_commands(std::span<const std::byte> typed);
  int fd_;
  const int terminal_;
  std::optional<termios> saved_;
  bool command_follows_ = false;
  bool quit_requested_ = false;
};

}  // namespace node_mesh
