# SPDX-License-Identifier: Apache-2.0
"""A start for tiny models that learns to look things up soon (in the manner of mimetic initialisation, Trockman and
Kolter 2023): W_q = W_k and W_o = W_v^T, so heads find and copy equal tokens, and heads of layer 0 look a few tokens
back. To say "back" without biases, component 0 of every embedding starts as a constant."""
import math

import torch


@torch.no_grad()
def mimetic(model, std=0.1, value=0.08, table=0.2, constant=1.0, local=7.0, offsets=(-1, -2, -3, -4)):
    c = model.config
    H, G, D = c.num_attention_heads, c.num_key_value_heads, c.hidden_size
    hd, half = D // H, D // H // 2
    E = model.get_input_embeddings().weight
    E.normal_(std=table)
    E[:, 0] = constant
    if not c.tie_word_embeddings:
        model.lm_head.weight.copy_(E)
    x0 = constant / math.sqrt((constant ** 2 + (D - 1) * table ** 2) / D)          # component 0 after the norm
    freq, use = model.model.rotary_emb.inv_freq[:half], 4
    amp = math.sqrt(local * math.sqrt(hd) / (1 - torch.cos(freq[:use])).sum().item()) / x0
    for i, layer in enumerate(model.model.layers):
        a = layer.self_attn
        for p in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
            p.weight.normal_(std=0.5 * p.in_features ** -0.5)
        s = 0.02 if i == 0 else std
        a.k_proj.weight.normal_(std=s)
        a.v_proj.weight.normal_(std=value)
        for h in range(H):
            g = h // (H // G)
            kv, me = slice(g * hd, (g + 1) * hd), slice(h * hd, (h + 1) * hd)
            a.q_proj.weight[me] = a.k_proj.weight[kv] + 0.3 * s * torch.randn(hd, D)
            a.o_proj.weight[:, me] = a.v_proj.weight[kv].T
        if i == 0:
            for g in range(G):
                a.k_proj.weight[g * hd:g * hd + use, 0] = amp
            for h in range(H):
                turn = freq[:use] * offsets[h]
                a.q_proj.weight[h * hd:h * hd + use, 0] = amp * torch.cos(turn)
                a.q_proj.weight[h * hd + half:h * hd + half + use, 0] = amp * torch.sin(turn)
