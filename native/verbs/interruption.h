// SIGINT, SIGTERM and SIGHUP as a request to end well: while one of these objects lives they set a
// flag, make its descriptor readable and call back. SIGPIPE is ignored, so that a closed output is
// seen as an error of write().
#pragma once

namespace node_mesh {

// What the handler may call: async-signal-safe only.
class Kickable {
 public:
  virtual ~Kickable() = default;
  virtual void kick() = 0;
};

class Interruption {
 public:
  Interruption();  // at most one lives at a time
  ~Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  // Null: nobody. The target must outlive its registration.
  void set_target(Kickable* target);
  bool requested() const;
  int descriptor() const;  // readable once requested
};

}  // namespace node_mesh
