// Calls back about once a millisecond, from a thread of its own, while it is armed: so that a guest
// that runs without end is looked after. Disarmed it costs nothing.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

namespace node_mesh {

inline constexpr long tick_ns = 1'000'000;

class Ticker {
 public:
  explicit Ticker(std::function<void()> on_tick);
  ~Ticker();
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;

  void arm();
  void disarm() { state_.store(disarmed, std::memory_order_relaxed); }

 private:
  enum State : int { disarmed, armed, over };
  void loop();
  std::function<void()> on_tick_;
  std::atomic<int> state_ = disarmed;
  std::thread thread_;
};

}  // namespace node_mesh
