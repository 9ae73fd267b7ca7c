#include "served_guest.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "replay/cbor.h"
#include "replay/log_header.h"
#include "replay/log_schema.h"
#include "replay/sha256.h"

namespace node_mesh::test {

using nlohmann::json;

constexpr int patience_ms = 10'000;

ServedGuest::ServedGuest() {
  int both[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both) == 0);
  socket_ = FileDescriptor(both[0]);
  const FileDescriptor far(both[1]);
  pid_ = ::fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    if (far.get() == 3) {
      ::fcntl(3, F_SETFD, 0);
    } else {
      ::dup2(far.get(), 3);
    }
    ::execl(NM_VMM, NM_VMM, "serve", nullptr);
    ::_exit(127);
  }
}

ServedGuest::~ServedGuest() {
  if (pid_ > 0) kill_now();
}

void ServedGuest::send_raw(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;  // it is gone: whoever reads next notices
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

void ServedGuest::send(const std::string& kind, json fields) {
  send_raw(encode_control(kind, std::move(fields)));
}

void ServedGuest::send_chunk(const Bytes& chunk) {
  send_raw(encode_frame(FrameType::chunk, chunk));
}

json ServedGuest::start(const std::string& guest, const std::string& checkpoint) {
  const std::string kernel = std::string(NM_GUESTS_DIR) + "/" + guest + ".elf";
  const auto bytes = read_file(kernel, 1 << 20);
  REQUIRE(bytes);
  MachineConfig config;
  config.memory_bytes = 64ull << 20;
  config.kernel_sha256 = sha256_of(*bytes);
  REQUIRE(await("hello"));
  json fields = {
      {"config", map_of(config)}, {"kernel", kernel}, {"initrd", nullptr}, {"engine", "auto"}};
  if (!checkpoint.empty()) fields["checkpoint"] = checkpoint;
  send("start", std::move(fields));
  auto ready = await("ready");
  REQUIRE_MESSAGE(ready, last_error);
  return *ready;
}

void ServedGuest::type(std::uint64_t seq, std::string_view text) {
  send("input", {{"source", 5},
                 {"seq", seq},
                 {"data", json::binary(std::vector<std::uint8_t>(text.begin(), text.end()))}});
}

bool ServedGuest::read_one(std::optional<json>& control) {
  for (;;) {
    auto frame = reader_.next();
    REQUIRE(frame);
    if (*frame) {
      Bytes& payload = (*frame)->payload;
      if ((*frame)->type == FrameType::chunk) {
        const auto chunk = decode_chunk(payload);
        REQUIRE(chunk);
        CHECK(chunk->number == chunks.size());
        chunks.push_back(payload);
        if (commits) send("committed", {{"chunk", chunk->number}});
      } else if ((*frame)->type == FrameType::output) {
        ByteReader in(payload);
        CHECK(in.u64("offset") == console.size());
        const auto text = in.bytes("text", in.left());
        console.append(reinterpret_cast<const char*>(text.data()), text.size());
        chunks_before_output = chunks.size();
      } else {
        auto fields = read_cbor(payload);
        REQUIRE(fields);
        control = std::move(*fields);
      }
      return true;
    }
    pollfd waited{socket_.get(), POLLIN, 0};
    if (::poll(&waited, 1, patience_ms) <= 0) return false;
    std::array<std::byte, 65536> block;
    const ssize_t got = ::read(socket_.get(), block.data(), block.size());
    if (got <= 0) return false;
    reader_.add(std::span(block).first(static_cast<std::size_t>(got)));
  }
}

std::optional<json> ServedGuest::await(const std::string& kind) {
  std::optional<json> control;
  while (read_one(control)) {
    if (control && control->at("kind") == kind) return control;
    if (control && control->at("kind") == "error") {
      last_error = control->at("message");
      return std::nullopt;
    }
    control.reset();
  }
  return std::nullopt;
}

bool ServedGuest::await_console(std::string_view text) {
  std::optional<json> control;
  while (console.find(text) == std::string::npos) {
    if (!read_one(control)) return false;
  }
  return true;
}

void ServedGuest::kill_now() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void ServedGuest::close_stream() { socket_ = FileDescriptor(); }

int ServedGuest::wait_for_exit() {
  int status = 0;
  for (int waited_ms = 0; waited_ms < patience_ms; waited_ms += 10) {
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    ::poll(nullptr, 0, 10);
  }
  return -1;
}

}  // namespace node_mesh::test
