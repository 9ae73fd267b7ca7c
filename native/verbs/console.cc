#include "verbs/console.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

namespace node_mesh {
namespace {

constexpr char ctrl_a = 1;
constexpr char ctrl_c = 3;

bool ready(int fd, short events) {
  pollfd entry{fd, events, 0};
  return ::poll(&entry, 1, 0) > 0 && entry.revents != 0;
}

}  // namespace

void ConsoleOutput::console_output(std::uint64_t, std::span<const std::byte> bytes) {
  bytes_ += bytes.size();
  hash_.add(bytes);
  if (fd_ >= 0 && !failure_) buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

void ConsoleOutput::write_some() {
  while (pending() > 0 && !failure_ && ready(fd_, POLLOUT)) {
    // A pipe or terminal that is ready takes this much without blocking.
    const std::size_t count = std::min<std::size_t>(pending(), PIPE_BUF);
    const ssize_t wrote = ::write(fd_, buffer_.data() + written_, count);
    if (wrote < 0) {
      if (errno == EAGAIN) break;
      if (errno != EINTR) failure_ = errno;
      continue;
    }
    written_ += static_cast<std::size_t>(wrote);
  }
  if (failure_ || pending() == 0) {
    buffer_.clear();
    written_ = 0;
  }
}

ConsoleInput::ConsoleInput(int fd) : fd_(::fcntl(fd, F_GETFD) < 0 ? -1 : fd), terminal_(fd_) {
  termios settings{};
  if (fd_ < 0 || ::tcgetattr(fd_, &settings) != 0) return;
  // In the background the terminal belongs to somebody else.
  if (::tcgetpgrp(fd_) != ::getpgrp()) {
    fd_ = -1;
    return;
  }
  saved_ = settings;
  settings.c_iflag &= ~static_cast<tcflag_t>(BRKINT | ICRNL | INLCR | IGNCR | ISTRIP | IXON);
  settings.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | IEXTEN);
  settings.c_cc[VMIN] = 1;
  settings.c_cc[VTIME] = 0;
  settings.c_cc[VQUIT] = _POSIX_VDISABLE;
  settings.c_cc[VSUSP] = _POSIX_VDISABLE;
  ::tcsetattr(fd_, TCSADRAIN, &settings);
}

ConsoleInput::~ConsoleInput() {
  if (saved_) ::tcsetattr(terminal_, TCSADRAIN, &*saved_);
}

Bytes ConsoleInput::read_some() {
  std::array<std::byte, 4096> block;
  if (fd_ < 0 || !ready(fd_, POLLIN)) return {};
  const ssize_t got = ::read(fd_, block.data(), block.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return {};
  if (got <= 0) {
    fd_ = -1;
    return {};
  }
  const auto typed = std::span(block).first(static_cast<std::size_t>(got));
  if (!saved_) return Bytes(typed.begin(), typed.end());
  return take_commands(typed);
}

Bytes ConsoleInput::take_commands(std::span<const std::byte> typed) {
  Bytes bytes;
  for (const std::byte byte : typed) {
    const char key = static_cast<char>(byte);
    if (!command_follows_) {
      if (key == ctrl_a) {
        command_follows_ = true;
      } else {
        bytes.push_back(byte);
      }
      continue;
    }
    command_follows_ = false;
    if (key == 'x' || key == 'X') quit_requested_ = true;
    if (key == 'c' || key == 'C') bytes.push_back(static_cast<std::byte>(ctrl_c));
    if (key == 'a' || key == 'A' || key == ctrl_a) bytes.push_back(static_cast<std::byte>(ctrl_a));
  }
  return bytes;
}

}  // namespace node_mesh
