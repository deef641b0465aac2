"""One model on CTranslate2: a batch of windows in, segments out."""
