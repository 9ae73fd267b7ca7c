#include "wire/channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>

#include "machine/check.h"

namespace node_mesh {

Channel::Channel(FileDescriptor socket, HostClock& clock)
    : socket_(std::move(socket)), wakeup_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), clock_(clock) {
  NM_CHECK(wakeup_);
  const int flags = ::fcntl(socket_.get(), F_GETFL);
  ::fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK);
  thread_ = std::thread([this] { loop(); });
}

Channel::~Channel() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  wake_thread();
  thread_.join();
}

std::optional<Channel::Arrival> Channel::take() {
  const std::lock_guard lock(mutex_);
  if (incoming_.empty()) return std::nullopt;
  Arrival arrival = std::move(incoming_.front());
  incoming_.pop_front();
  const bool was_full = incoming_bytes_ >= incoming_bytes_max;
  incoming_bytes_ -= arrival.bytes;
  if (was_full) wake_thread();
  return arrival;
}

bool Channel::has_incoming() const {
  const std::lock_guard lock(mutex_);
  return !incoming_.empty();
}

void Channel::wait(std::uint64_t wait_ns) {
  std::unique_lock lock(mutex_);
  const bool was_congested = outgoing_bytes_ >= outgoing_bytes_high;
  changed_.wait_for(lock, std::chrono::nanoseconds(wait_ns), [&] {
    return closed_ || read_over_ || !incoming_.empty() ||
           (was_congested && outgoing_bytes_ < outgoing_bytes_high);
  });
}

void Channel::send(Bytes frame) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  // At once if nothing is in front of it: a hand-over to the thread takes longer than the rest.
  // Whatever goes wrong here, the thread meets too, and it is its to deal with.
  std::size_t sent = 0;
  if (outgoing_.empty()) {
    const ssize_t wrote = ::send(socket_.get(), frame.data(), frame.size(), MSG_NOSIGNAL);
    if (wrote > 0) sent = static_cast<std::size_t>(wrote);
    if (sent == frame.size()) return;
    front_written_ = sent;
  }
  outgoing_bytes_ += frame.size() - sent;
  outgoing_.push_back(std::move(frame));
  if (outgoing_.size() == 1) wake_thread();
}

bool Channel::congested() const {
  const std::lock_guard lock(mutex_);
  return outgoing_bytes_ >= outgoing_bytes_high;
}

void Channel::drain(std::uint64_t wait_ns) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::nanoseconds(wait_ns),
                    [&] { return closed_ || outgoing_.empty(); });
}

bool Channel::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_ || read_over_;
}

std::string Channel::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void Channel::set_kick(std::function<void()> kick) {
  const std::lock_guard lock(mutex_);
  kick_ = std::move(kick);
}

void Channel::wake_thread() const {
  const std::uint64_t one = 1;
  if (::write(wakeup_.get(), &one, sizeof one) < 0) {
    // A full counter is readable already.
  }
}

void Channel::close_with(std::string error) {
  const std::lock_guard lock(mutex_);
  if (error.empty()) closed_ = true;
  read_over_ = true;
  error_ = std::move(error);
  changed_.notify_all();
  if (kick_) kick_();
}

void Channel::loop() {
  // Signals are for the thread that runs the guest.
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  for (;;) {
    std::array<pollfd, 2> waited = {pollfd{socket_.get(), 0, 0}, pollfd{wakeup_.get(), POLLIN, 0}};
    {
      const std::lock_guard lock(mutex_);
      if (over_) return;
      if (closed_) waited[0].fd = -1;
      if (incoming_bytes_ < incoming_bytes_max && !read_over_) waited[0].events |= POLLIN;
      if (!outgoing_.empty()) waited[0].events |= POLLOUT;
    }
    if (::poll(waited.data(), waited.size(), -1) < 0) continue;
    if (waited[1].revents != 0) {
      std::uint64_t count = 0;
      if (::read(wakeup_.get(), &count, sizeof count) < 0) continue;
    }
    const short got = waited[0].revents;
    if ((got & POLLOUT) && !write_frames()) continue;
    // Not reading, because the incoming queue is full, must not hide that the node is gone.
    if (got & (POLLIN | POLLHUP | POLLERR)) read_frames();
  }
}

void Channel::read_frames() {
  std::array<std::byte, 64 << 10> block;
  const ssize_t got = ::recv(socket_.get(), block.data(), block.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    close_with("");
    return;
  }
  reader_.add(std::span(block).first(static_cast<std::size_t>(got)));
  bool any = false;
  for (;;) {
    auto frame = reader_.next();
    if (frame && !*frame) break;
    const std::size_t bytes = frame ? (*frame)->payload.size() + 256 : 0;
    auto parsed =
        frame
            ? parse_frame(std::move(**frame))
            : std::expected<IncomingFrame, std::string>(std::unexpected(std::move(frame.error())));
    if (!parsed) {
      close_with(parsed.error());
      return;
    }
    const std::lock_guard lock(mutex_);
    incoming_.push_back({std::move(*parsed), bytes, clock_.now_ns()});
    incoming_bytes_ += bytes;
    any = true;
  }
  if (any) {
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
    if (kick_) kick_();
  }
}

bool Channel::write_frames() {
  for (;;) {
    std::span<const std::byte> rest;
    {
      const std::lock_guard lock(mutex_);
      if (outgoing_.empty()) return true;
      // Only this thread takes frames out, so the bytes stay where they are.
      rest = std::span<const std::byte>(outgoing_.front()).subspan(front_written_);
    }
    const ssize_t wrote = ::send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && errno == EAGAIN) return true;
    if (wrote < 0) {
      close_with("");
      return false;
    }
    const std::lock_guard lock(mutex_);
    front_written_ += static_cast<std::size_t>(wrote);
    outgoing_bytes_ -= static_cast<std::size_t>(wrote);
    if (front_written_ == outgoing_.front().size()) {
      outgoing_.pop_front();
      front_written_ = 0;
    }
    if (outgoing_.empty() || outgoing_bytes_ < outgoing_bytes_high) changed_.notify_all();
  }
}

}  // namespace node_mesh
