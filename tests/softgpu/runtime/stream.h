// stream.h: what stream.cpp and graph.cpp share.
#ifndef SOFTGPU_STREAM_H
#define SOFTGPU_STREAM_H

#include <set>

#include "softgpu.h"

struct CUevent_st {
    struct Record { // one cudaEventRecord
        bool done = false;
        double time_s = 0;
        cudaStream_t stream = nullptr;
        std::shared_ptr<CUgraph_st> capture;
    };
    bool timing = true;
    std::shared_ptr<Record> record;
};

struct CUgraphExec_st {
    std::vector<softgpu::OpRef> ops;
};

namespace softgpu
{

struct Handles {
    std::set<cudaStream_t> streams; // those that were created
    std::map<int, cudaStream_t> defaults;
    std::set<cudaEvent_t> events;
    std::set<cudaGraph_t> graphs;
    std::set<cudaGraphExec_t> execs;
};

Handles &handles();
std::vector<cudaStream_t> streams_of(int device);

} // namespace softgpu

#endif
