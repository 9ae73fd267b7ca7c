#include "replay/ticker.h"

#include <ctime>
#include <utility>

namespace node_mesh {

Ticker::Ticker(std::function<void()> on_tick)
    : on_tick_(std::move(on_tick)), thread_([this] { loop(); }) {}

Ticker::~Ticker() {
  state_.store(over);
  state_.notify_one();
  thread_.join();
}

void Ticker::arm() {
  int expected = disarmed;
  if (state_.compare_exchange_strong(expected, armed)) state_.notify_one();
}

void Ticker::loop() {
  for (;;) {
    const int state = state_.load();
    if (state == over) return;
    if (state == disarmed) {
      state_.wait(disarmed);
      continue;
    }
    const timespec tick{0, tick_ns};
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, nullptr);
    if (state_.load() == armed) on_tick_();
  }
}

}  // namespace node_mesh
