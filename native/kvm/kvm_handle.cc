#include "kvm/kvm_handle.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

namespace node_mesh {
namespace {

constexpr int never = -1;
std::atomic<int> fail_countdown = never;
std::atomic<bool> injected = false;

bool must_fail() {
  int left = fail_countdown.load(std::memory_order_relaxed);
  if (left < 0) return false;
  fail_countdown.store(left - 1, std::memory_order_relaxed);
  if (left == 0) injected = true;
  return left == 0;
}

std::string failure(const char* name, int error) {
  return std::string(name) + ": " + std::strerror(error);
}

}  // namespace

KvmHandle::KvmHandle(KvmHandle&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
KvmHandle& KvmHandle::operator=(KvmHandle&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
KvmHandle::~KvmHandle() {
  if (fd_ >= 0) ::close(fd_);
}

void KvmHandle::fail_after(int count) {
  fail_countdown = count;
  injected = false;
}
bool KvmHandle::failure_was_injected() { return injected; }

KvmHandle::Result<KvmHandle> KvmHandle::open_device() {
  if (must_fail()) return std::unexpected(failure("/dev/kvm", EIO));
  const int fd = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (fd < 0) return std::unexpected(failure("/dev/kvm", errno));
  return KvmHandle(fd);
}

KvmHandle::Result<int> KvmHandle::call(const char* name, unsigned long request,
                                       unsigned long argument) const {
  if (must_fail()) return std::unexpected(failure(name, EIO));
  for (;;) {
    const int result = ::ioctl(fd_, request, argument);
    if (result >= 0) return result;
    if (errno != EINTR) return std::unexpected(failure(name, errno));
  }
}

KvmHandle::Result<KvmHandle> KvmHandle::make(const char* name, unsigned long request,
                                             unsigned long argument) const {
  auto fd = call(name, request, argument);
  if (!fd) return std::unexpected(fd.error());
  return KvmHandle(*fd);
}

int KvmHandle::run() const {
  if (must_fail()) return EIO;
  return ::ioctl(fd_, KVM_RUN, 0) < 0 ? errno : 0;
}

}  // namespace node_mesh
